//! What a nearfs client and a nearfs server say to each other, and the rules of saying it.
//!
//! Nothing here does IO or reads a clock: bytes and `now` come in, bytes and events go out. Begin with
//! [`message`] (what can be asked), [`codec`] (how it looks on the wire) and [`session`] (what outlives a
//! connection).
//!
//! The words, each with one meaning throughout the project:
//!
//! | word | means |
//! |---|---|
//! | node | a file or directory as the server names it: [`id::Node`] |
//! | dentry | a name in a directory and the node it leads to, or the knowledge that there is none |
//! | lookup count, forget | references the client holds to a node; forget gives some back |
//! | attr, change | metadata; the counter that differs after any change |
//! | fh | an open file |
//! | export, mount | the served tree; where it is attached |
//! | session | what outlives a connection: nodes, open files, locks, unconfirmed answers |
//! | lease, recall | how long the server keeps what it granted; how it asks for it back |
//! | epoch | one life of the server process |
//! | push | what the server says unasked |
//! | transfer | what a shell does with a name and announces, so that others see how far it is: [`roster`] |
//! | payload | raw bytes that travel beside a message |

pub mod attr;
pub mod codec;
pub mod errno;
pub mod greeting;
pub mod hash;
pub mod id;
pub mod limits;
pub mod message;
pub mod name;
mod request;
pub mod roster;
pub mod session;
pub mod version;
