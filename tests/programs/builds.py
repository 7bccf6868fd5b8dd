"""Compilers, build systems and what they build."""

import errno
import os
import subprocess

from checks import check, fails, same, shell


@check(seconds=120)
def make_a_c_project(there, here):
    (there / "shared.h").write_text("#define OFFSET 1\nint part(int);\n")
    parts = range(40)
    for number in parts:
        source = f'#include "shared.h"\nint part{number}(int n) {{ return n + OFFSET + {number}; }}\n'
        (there / f"part{number}.c").write_text(source)
    calls = "".join(f"int part{number}(int); " for number in parts)
    body = "".join(f"n = part{number}(n); " for number in parts)
    main = f'#include <stdio.h>\n{calls}int main(void) {{ int n = 0; {body}printf("%d\\n", n); return 0; }}\n'
    (there / "main.c").write_text(main)
    (there / "Makefile").write_text(
        "objects = $(patsubst %.c,%.o,$(wildcard *.c))\nall: program\n"
        "program: $(objects)\n\tcc -o $@ $^\n%.o: %.c shared.h\n\tcc -O1 -c -o $@ $<\n"
    )
    shell("make -s -j2", cwd=there)
    same(shell("./program", cwd=there).strip(), str(sum(parts) + 40), "output of the program")
    shell("make -q", cwd=there)
    (there / "shared.h").write_text("#define OFFSET 2\nint part(int);\n")
    same(shell("make -s -j2; ./program", cwd=there).strip(), str(sum(parts) + 80), "output after a change")


@check(seconds=180)
def cargo_build_of_a_workspace(there, here):
    shell("""
        cargo new --quiet --vcs none --bin app
        cargo new --quiet --vcs none --lib library
        printf '[workspace]\\nresolver = "2"\\nmembers = ["app", "library"]\\n' > Cargo.toml
        echo 'library = { path = "../library" }' >> app/Cargo.toml
        echo 'fn main() { println!("{}", library::add(2, 3)); }' > app/src/main.rs
        export CARGO_TARGET_DIR=$PWD/target
        cargo build --quiet --offline
        [ "$(target/debug/app)" = 5 ]
        # Nothing has changed: times must be as exact as cargo remembers them.
        cargo build --offline 2> again
        ! grep Compiling again
        sed -i 's/left + right/left * right/' library/src/lib.rs
        cargo build --offline 2> changed
        grep -q 'Compiling library' changed
        [ "$(target/debug/app)" = 6 ]
    """, cwd=there)


@check()
def run_programs_that_lie_there(there, here):
    shell("""
        cp "$(command -v ls)" copied
        ./copied / > /dev/null
        printf '#!/bin/sh\\necho "script $1"\\n' > script
        chmod +x script
        [ "$(./script works)" = 'script works' ]
        chmod -x script
        ! ./script 2> /dev/null
        echo 'int answer(void) { return 42; }' > library.c
        cc -shared -fPIC -o liblibrary.so library.c
        [ "$(python3 -c 'import ctypes; print(ctypes.CDLL("./liblibrary.so").answer())')" = 42 ]
    """, cwd=there)


@check()
def a_running_program_cannot_be_written(there, here):
    shell("cp \"$(command -v sleep)\" program", cwd=there)
    running = subprocess.Popen([there / "program", "30"])
    try:
        fails(errno.ETXTBSY, os.open, there / "program", os.O_WRONLY)
    finally:
        running.kill()
        running.wait()
    os.close(os.open(there / "program", os.O_WRONLY))


@check(seconds=180)
def python_virtual_environment(there, here):
    shell("""
        unset PYTHONDONTWRITEBYTECODE
        /usr/bin/python3 -m venv environment
        mkdir package
        echo 'def double(number): return 2 * number' > package/__init__.py
        [ "$(environment/bin/python -c 'import package; print(package.double(21))')" = 42 ]
        [ -d package/__pycache__ ]
        environment/bin/python -m pip --version > /dev/null
        environment/bin/python -m compileall -q environment/lib
    """, cwd=there)
