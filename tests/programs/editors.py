"""Editors save in ways of their own: by renaming, in place, with backups."""

import os
import pty
import select
import time

from checks import check, same, shell


@check()
def vim_saves(there, here):
    for number, setting in enumerate(("backupcopy=no", "backupcopy=yes", "backup", "nowritebackup", "undofile")):
        path = there / f"text{number}"
        path.write_text("old line\n" * 100)
        path.chmod(0o640)
        shell('vim -N -es -u NONE -c "set swapfile $setting" -c "%s/old/new/" -c wq "$path"',
              cwd=there, setting=setting, path=path)
        same(path.read_text(), "new line\n" * 100, f"text saved with {setting}")
        same(oct(path.stat().st_mode & 0o7777), oct(0o640), f"mode after {setting}")
    same([name for name in os.listdir(there) if name.endswith(".swp")], [], "swap files left")


@check()
def vim_recovers(there, here):
    (there / "text").write_text("saved\n")
    shell("""
        # The editor is killed with a change that only its swap file has.
        { sleep 2; } | timeout -s KILL 1 vim -N -es -u NONE -c 'set swapfile' -c 'normal Gounsaved' \
            -c preserve -c 'sleep 30' text || true
        [ -e .text.swp ]
        vim -N -es -u NONE -c 'recover text' -c 'w! recovered' -c 'q!' || true
        grep -q unsaved recovered
    """, cwd=there)


@check()
def nano_saves(there, here):
    path = there / "text"
    path.write_text("second line\n")
    child, terminal = pty.fork()
    if child == 0:
        os.environ["TERM"] = "xterm"
        os.execvp("nano", ["nano", "--ignorercfiles", str(path)])
    try:
        wait_for(terminal, b"second line")
        os.write(terminal, b"first line\r")
        os.write(terminal, b"\x0f")
        wait_for(terminal, b"Write")
        os.write(terminal, b"\r")
        wait_for(terminal, b"Wrote")
        os.write(terminal, b"\x18")
        _, status = os.waitpid(child, 0)
    finally:
        os.close(terminal)
    same(os.waitstatus_to_exitcode(status), 0, "exit code of nano")
    same(path.read_text(), "first line\nsecond line\n", "text")


def wait_for(terminal, text, seconds=20):
    """Reads what the program shows until the text is among it."""
    shown, deadline = b"", time.monotonic() + seconds
    while text not in shown:
        ready, _, _ = select.select([terminal], [], [], deadline - time.monotonic())
        if not ready:
            raise AssertionError(f"{text} does not appear; shown is {shown[-500:]}")
        shown += os.read(terminal, 4096)


@check()
def stream_editors_save(there, here):
    shell("""
        seq 1000 > text
        sed -i.backup 's/^5/five/' text
        [ "$(grep -c five text)" = 111 ] && [ "$(grep -c five text.backup)" = 0 ]
        perl -pi -e 's/five/5/' text
        cmp text text.backup
        sort -R -o text text; sort -n -o text text
        cmp text text.backup
        tee -a text < text.backup > /dev/null
        [ "$(wc -l < text)" = 2000 ]
    """, cwd=there)
