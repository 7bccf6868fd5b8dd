//! What a line says: commands, their words, and where their output goes. Pure: nothing is looked up.
//!
//! Words are bytes. `'...'` and `"..."` quote, `\` quotes one byte, `$'...'` has `\n`, `\xe9` and the like, `#` begins a
//! comment. `;` and a new line end a command, `> file`, `>> file` and `| command` say where its output goes; `!` before
//! a line hands it to the local shell. `-` before a command lets a script go on if it fails.

/// A byte of a word, and whether it was quoted and so stands for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    byte: u8,
    is_quoted: bool,
}

/// A word as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Word(Vec<Piece>);

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A verb with its arguments; there is at least one word.
    Verb {
        words: Vec<Word>,
        output: Redirect,
        /// A failure does not end a script.
        is_forgiven: bool,
    },
    /// A line for the local shell.
    Local { line: Vec<u8> },
}

/// Where the output of a command goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// Where all output goes.
    Nowhere,
    /// Into a local file.
    File { path: Word, append: bool },
    /// To a local command.
    Pipe(Vec<u8>),
}

/// Why a line means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseError {
    /// A quote without its other half: more may follow.
    #[error("a quote is not closed")]
    OpenQuote,
    #[error("there is nothing behind the backslash")]
    Backslash,
    #[error("$'...' does not know this escape; it knows \\n \\t \\r \\e \\\\ \\' \\\" and \\xHH")]
    Escape,
    #[error("a name of a file must follow >")]
    NoFile,
    #[error("a command must follow |")]
    NoCommand,
    #[error("a command must come before > and |")]
    NothingBefore,
}

/// The last word before the cursor, for completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfinished {
    /// The words of the command before it.
    pub(crate) before: Vec<Word>,
    /// The word as far as it is written; empty for a new one.
    pub(crate) word: Word,
    /// At which byte of the line it begins.
    pub(crate) start: usize,
    /// It says where output goes.
    pub(crate) is_output: bool,
}

/// Bytes that mean something in a pattern, or at the beginning of an argument.
const SPECIAL: &[u8] = b"*?[]{}!,\\~-";

impl Word {
    /// A word of which every byte stands for itself.
    #[cfg(test)]
    pub(crate) fn quoted(bytes: &[u8]) -> Word {
        Word(bytes.iter().map(|&byte| Piece { byte, is_quoted: true }).collect())
    }

    /// A word as if it had been written without quotes.
    #[cfg(test)]
    pub(crate) fn plain(bytes: &[u8]) -> Word {
        Word(bytes.iter().map(|&byte| Piece { byte, is_quoted: false }).collect())
    }

    /// What it says.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.iter().map(|piece| piece.byte).collect()
    }

    /// The same as a pattern: what was quoted and would mean something is behind a backslash. That also keeps a quoted
    /// dash from being an option.
    pub(crate) fn pattern(&self) -> Vec<u8> {
        let mut pattern = Vec::with_capacity(self.0.len());
        for piece in &self.0 {
            if piece.is_quoted && SPECIAL.contains(&piece.byte) {
                pattern.push(b'\\');
            }
            pattern.push(piece.byte);
        }
        pattern
    }

    /// Whether it was written with quotes anywhere.
    pub(crate) fn has_quotes(&self) -> bool {
        self.0.iter().any(|piece| piece.is_quoted)
    }
}

/// What a pattern says when nothing in it is to be matched: without its backslashes.
pub(crate) fn unescape(pattern: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(pattern.len());
    let mut rest = pattern.iter();
    while let Some(&byte) = rest.next() {
        bytes.push(if byte == b'\\' { rest.next().copied().unwrap_or(byte) } else { byte });
    }
    bytes
}

/// Whether a pattern has something to be matched.
pub(crate) fn is_pattern(pattern: &[u8]) -> bool {
    let mut rest = pattern.iter();
    while let Some(&byte) = rest.next() {
        match byte {
            b'\\' => drop(rest.next()),
            b'*' | b'?' | b'[' | b'{' => return true,
            _ => {}
        }
    }
    false
}

/// Takes a line apart.
pub(crate) fn parse(line: &[u8]) -> Result<Vec<Step>, ParseError> {
    let mut lexer = Lexer { line, at: 0 };
    let mut steps = Vec::new();
    loop {
        lexer.skip_blanks();
        match lexer.peek() {
            None => return Ok(steps),
            Some(b';' | b'\n') => lexer.at += 1,
            Some(b'!') => {
                lexer.at += 1;
                let line = lexer.rest_of_line();
                steps.push(Step::Local { line });
            }
            Some(_) => steps.push(lexer.verb()?),
        }
    }
}

/// What stands before the cursor. `None` where nothing can be completed: in a local command.
pub(crate) fn unfinished(line: &[u8]) -> Option<Unfinished> {
    let mut lexer = Lexer { line, at: 0 };
    let (mut before, mut is_output) = (Vec::new(), false);
    loop {
        lexer.skip_blanks();
        let start = lexer.at;
        match lexer.peek() {
            None => return Some(Unfinished { before, word: Word::default(), start, is_output }),
            Some(b';' | b'\n') => {
                lexer.at += 1;
                before.clear();
                is_output = false;
            }
            Some(b'!') if before.is_empty() => return None,
            Some(b'|') => return None,
            Some(b'>') => {
                lexer.at += 1;
                is_output = true;
            }
            Some(_) => {
                let mut word = Word::default();
                let is_open = lexer.word(&mut word).is_err();
                if is_open || lexer.at == line.len() {
                    return Some(Unfinished { before, word, start, is_output });
                }
                if !std::mem::take(&mut is_output) {
                    before.push(word);
                }
            }
        }
    }
}

/// How bytes have to be written to be one word, or the beginning of one, that says them.
pub(crate) fn quote(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "''".into();
    }
    let mut word = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let is_plain =
                c.is_alphanumeric() || "/._+,:@%=^".contains(c) || ("-~".contains(c) && !word.is_empty());
            match c {
                c if is_plain => word.push(c),
                c if c.is_ascii() && !c.is_control() => word.extend(['\\', c]),
                '\n' => word.push_str("$'\\n'"),
                '\t' => word.push_str("$'\\t'"),
                c if c.is_ascii() => word.push_str(&format!("$'\\x{:02x}'", u32::from(c))),
                c if c.is_control() => {
                    let mut room = [0; 4];
                    c.encode_utf8(&mut room)
                        .bytes()
                        .for_each(|byte| word.push_str(&format!("$'\\x{byte:02x}'")));
                }
                c => word.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| word.push_str(&format!("$'\\x{byte:02x}'")));
    }
    word
}

struct Lexer<'a> {
    line: &'a [u8],
    at: usize,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// Blanks and a comment.
    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r')) {
            self.at += 1;
        }
        if self.peek() == Some(b'#') {
            while self.peek().is_some_and(|byte| byte != b'\n') {
                self.at += 1;
            }
        }
    }

    fn rest_of_line(&mut self) -> Vec<u8> {
        let rest = &self.line[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
        self.at += end;
        rest[..end].trim_ascii().to_vec()
    }

    fn verb(&mut self) -> Result<Step, ParseError> {
        let is_forgiven = self.peek() == Some(b'-');
        if is_forgiven {
            self.at += 1;
        }
        let (mut words, mut output) = (Vec::new(), Redirect::Nowhere);
        loop {
            self.skip_blanks();
            match self.peek() {
                None | Some(b';' | b'\n') => break,
                Some(b'>') => output = self.file()?,
                Some(b'|') => output = self.pipe()?,
                Some(_) => {
                    let mut word = Word::default();
                    self.word(&mut word)?;
                    words.push(word);
                }
            }
        }
        if words.is_empty() {
            return Err(ParseError::NothingBefore);
        }
        Ok(Step::Verb { words, output, is_forgiven })
    }

    fn file(&mut self) -> Result<Redirect, ParseError> {
        self.at += 1;
        let append = self.peek() == Some(b'>');
        if append {
            self.at += 1;
        }
        self.skip_blanks();
        let mut path = Word::default();
        match self.peek() {
            None | Some(b';' | b'\n' | b'>' | b'|') => return Err(ParseError::NoFile),
            Some(_) => self.word(&mut path)?,
        }
        Ok(Redirect::File { path, append })
    }

    /// The local shell takes the command apart itself; it ends where a `;` stands outside of quotes.
    fn pipe(&mut self) -> Result<Redirect, ParseError> {
        self.at += 1;
        let start = self.at;
        let mut quote = None;
        while let Some(byte) = self.peek() {
            match quote {
                None if matches!(byte, b';' | b'\n') => break,
                None if matches!(byte, b'\'' | b'"') => quote = Some(byte),
                Some(open) if open == byte => quote = None,
                None | Some(_) => {}
            }
            self.at += 1;
        }
        if quote.is_some() {
            return Err(ParseError::OpenQuote);
        }
        let command = self.line[start..self.at].trim_ascii();
        if command.is_empty() { Err(ParseError::NoCommand) } else { Ok(Redirect::Pipe(command.to_vec())) }
    }

    /// Reads a word to its end. What was read before an error is in `word`.
    fn word(&mut self, word: &mut Word) -> Result<(), ParseError> {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b';' | b'>' | b'|' => break,
                b'\'' => self.single(word)?,
                b'"' => self.double(word)?,
                b'$' if self.line.get(self.at + 1) == Some(&b'\'') => self.dollar(word)?,
                b'\\' => {
                    self.at += 1;
                    let byte = self.take().ok_or(ParseError::Backslash)?;
                    word.0.push(Piece { byte, is_quoted: true });
                }
                byte => {
                    self.at += 1;
                    word.0.push(Piece { byte, is_quoted: false });
                }
            }
        }
        Ok(())
    }

    fn single(&mut self, word: &mut Word) -> Result<(), ParseError> {
        self.at += 1;
        loop {
            match self.take().ok_or(ParseError::OpenQuote)? {
                b'\'' => return Ok(()),
                byte => word.0.push(Piece { byte, is_quoted: true }),
            }
        }
    }

    fn double(&mut self, word: &mut Word) -> Result<(), ParseError> {
        self.at += 1;
        loop {
            let byte = match self.take().ok_or(ParseError::OpenQuote)? {
                b'"' => return Ok(()),
                b'\\' if matches!(self.peek(), Some(b'"' | b'\\')) => {
                    self.take().ok_or(ParseError::OpenQuote)?
                }
                byte => byte,
            };
            word.0.push(Piece { byte, is_quoted: true });
        }
    }

    fn dollar(&mut self, word: &mut Word) -> Result<(), ParseError> {
        self.at += 2;
        loop {
            let byte = match self.take().ok_or(ParseError::OpenQuote)? {
                b'\'' => return Ok(()),
                b'\\' => match self.take().ok_or(ParseError::OpenQuote)? {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    b'e' => 0x1b,
                    b'x' => self.hexadecimal()?,
                    byte @ (b'\\' | b'\'' | b'"') => byte,
                    _ => return Err(ParseError::Escape),
                },
                byte => byte,
            };
            word.0.push(Piece { byte, is_quoted: true });
        }
    }

    fn hexadecimal(&mut self) -> Result<u8, ParseError> {
        let mut digit = || {
            let byte = self.take().ok_or(ParseError::OpenQuote)?;
            (byte as char).to_digit(16).ok_or(ParseError::Escape)
        };
        let value = digit()? * 16 + digit()?;
        u8::try_from(value).map_err(|_| ParseError::Escape)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Vec<String> {
        match &parse(line.as_bytes()).unwrap()[..] {
            [Step::Verb { words, .. }] => {
                words.iter().map(|word| String::from_utf8_lossy(&word.bytes()).into_owned()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn words_are_quoted_in_every_way() {
        assert_eq!(
            words("get a\\ b 'c d' \"e 'f'\\\"\" $'g\\n\\x41'"),
            ["get", "a b", "c d", "e 'f'\"", "g\nA"]
        );
        assert_eq!(words("  get a'b'\"c\"\t# the rest is nothing"), ["get", "abc"]);
        assert_eq!(words("get ''"), ["get", ""]);
        assert_eq!(words("get a#b"), ["get", "a#b"]);
    }

    #[test]
    fn commands_follow_each_other() {
        let steps = parse(b" ; ls;; -rm x ;!echo a; b\npwd\n").unwrap();
        assert_eq!(steps.len(), 4);
        assert!(matches!(&steps[0], Step::Verb { is_forgiven: false, .. }));
        assert!(
            matches!(&steps[1], Step::Verb { is_forgiven: true, words, .. } if words[0].bytes() == b"rm")
        );
        assert_eq!(steps[2], Step::Local { line: b"echo a; b".to_vec() });
        assert_eq!(parse(b"  # nothing").unwrap(), []);
    }

    #[test]
    fn output_goes_elsewhere() {
        let output = |line: &[u8]| match parse(line).unwrap().remove(0) {
            Step::Verb { output, .. } => output,
            other => panic!("{other:?}"),
        };
        assert_eq!(output(b"ls>out"), Redirect::File { path: Word::plain(b"out"), append: false });
        assert_eq!(output(b"ls >> 'o u' -l"), Redirect::File { path: Word::quoted(b"o u"), append: true });
        assert_eq!(output(b"ls | grep 'a;b' ; pwd"), Redirect::Pipe(b"grep 'a;b'".to_vec()));
        assert_eq!(output(b"ls '>' \\|"), Redirect::Nowhere);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (line, error) in [
            ("get 'a", ParseError::OpenQuote),
            ("get \"a", ParseError::OpenQuote),
            ("get $'\\x4", ParseError::OpenQuote),
            ("get $'\\q'", ParseError::Escape),
            ("get $'\\x4g'", ParseError::Escape),
            ("get a\\", ParseError::Backslash),
            ("ls >", ParseError::NoFile),
            ("ls > ;", ParseError::NoFile),
            ("ls |", ParseError::NoCommand),
            ("ls | 'a", ParseError::OpenQuote),
            ("> a", ParseError::NothingBefore),
            ("-", ParseError::NothingBefore),
        ] {
            assert_eq!(parse(line.as_bytes()), Err(error), "{line}");
        }
    }

    #[test]
    fn patterns_are_what_was_not_quoted() {
        let pattern = |line: &str| match &parse(line.as_bytes()).unwrap()[..] {
            [Step::Verb { words, .. }] => words[0].pattern(),
            other => panic!("{other:?}"),
        };
        assert_eq!(pattern("a*'*'\\?"), b"a*\\*\\?");
        assert!(is_pattern(&pattern("a*")) && is_pattern(&pattern("[ab]")) && is_pattern(&pattern("{a,b}")));
        assert!(!is_pattern(&pattern("'a*'")) && !is_pattern(&pattern("a\\*b")));
        assert_eq!(pattern("'-rf'"), b"\\-rf");
        assert_eq!(unescape(b"\\-a\\*\\\\"), b"-a*\\");
    }

    #[test]
    fn the_word_before_the_cursor_is_found() {
        let at = |line: &str| {
            let unfinished = unfinished(line.as_bytes()).unwrap();
            let before = unfinished.before.iter().map(|word| String::from_utf8(word.bytes()).unwrap());
            (before.collect::<Vec<_>>().join(" "), unfinished.word.bytes(), unfinished.start)
        };
        assert_eq!(at("get a b"), ("get a".into(), b"b".to_vec(), 6));
        assert_eq!(at("ls; get "), ("get".into(), b"".to_vec(), 8));
        assert_eq!(at("get 'a b"), ("get".into(), b"a b".to_vec(), 4));
        assert_eq!(at("get a\\ b"), ("get".into(), b"a b".to_vec(), 4));
        assert_eq!(at(""), ("".into(), b"".to_vec(), 0));
        let output = |line: &str| unfinished(line.as_bytes()).map(|unfinished| unfinished.is_output);
        assert_eq!(
            [output("ls > a"), output("ls >"), output("ls > a b")],
            [Some(true), Some(true), Some(false)]
        );
        assert_eq!(at("ls > out do"), ("ls".into(), b"do".to_vec(), 9));
        assert_eq!(unfinished(b"!ls a"), None);
        assert_eq!(unfinished(b"ls | gr"), None);
    }

    proptest! {
        #[test]
        fn any_name_can_be_written(name in prop::collection::vec(1u8.., 1..40), other in prop::collection::vec(1u8.., 1..40)) {
            let line = format!("get {} {}", quote(&name), quote(&other));
            prop_assert!(!line.chars().any(char::is_control));
            let steps = parse(line.as_bytes()).unwrap();
            prop_assert_eq!(steps.len(), 1);
            let Step::Verb { words, output, .. } = &steps[0] else { panic!("{steps:?}") };
            prop_assert_eq!(output, &Redirect::Nowhere);
            prop_assert_eq!(words.len(), 3);
            prop_assert_eq!(words[1].bytes(), name.clone());
            prop_assert!(!is_pattern(&words[1].pattern()));
            prop_assert_eq!(unescape(&words[1].pattern()), name);
            prop_assert_eq!(words[2].bytes(), other);
        }

        #[test]
        fn no_line_is_too_odd(line in prop::collection::vec(prop::sample::select(b"a -;|>!#'\"\\$*x4n\n~".to_vec()), 0..30)) {
            if let Ok(steps) = parse(&line) {
                for step in steps {
                    if let Step::Verb { words, .. } = step {
                        prop_assert!(!words.is_empty());
                    }
                }
            }
            if let Some(unfinished) = unfinished(&line) {
                prop_assert!(unfinished.start <= line.len());
            }
        }

        #[test]
        fn a_pattern_says_what_the_word_says(bytes in prop::collection::vec(1u8.., 0..20)) {
            let word = Word::quoted(&bytes);
            prop_assert_eq!(unescape(&word.pattern()), bytes);
        }
    }
}
