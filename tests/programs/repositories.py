"""git on the file system: clone, commit, merge, gc, fsck."""

from checks import check, same, shell

COMMITS = 300
FILES = 600


def make_repository(directory):
    """A bare repository with some history, written by fast-import so that it takes no time."""
    lines = []
    for number in range(COMMITS):
        when = f"Some One <one@example.com> {1_700_000_000 + number * 60} +0000"
        lines += ["commit refs/heads/main", f"committer {when}", "data 8", f"No {number:04} "]
        for which in (number * 2 % FILES, (number * 2 + 1) % FILES):
            text = f"file {which} in commit {number}\n" * 40
            lines += [f"M 100644 inline d{which % 20}/f{which}.txt", f"data {len(text)}", text]
    history = directory / "history"
    history.write_text("\n".join(lines) + "\n")
    repository = directory / "origin.git"
    shell('git init -q --bare -b main "$repository"; git -C "$repository" fast-import --quiet < "$history"',
          repository=repository, history=history)
    return repository


def clone(there, here):
    origin = make_repository(here)
    shell("""
        git clone -q "$origin" work
        git -C work config user.name one
        git -C work config user.email one@example.com
    """, cwd=there, origin=origin)
    return there / "work"


@check(seconds=120)
def git_clone(there, here):
    work = clone(there, here)
    same(shell("git status --porcelain", cwd=work), "", "status")
    same(shell("git rev-list --count HEAD", cwd=work).strip(), str(COMMITS), "number of commits")
    same(len(list(work.glob("d*/*.txt"))), FILES, "number of files")


@check(seconds=120)
def git_commit_merge_rebase(there, here):
    work = clone(there, here)
    shell("""
        git checkout -q -b topic HEAD~5
        for number in 1 2 3 4 5; do echo $number > new$number; git add .; git commit -qm "new $number"; done
        git rebase -q main
        git checkout -q main
        git merge -q --no-ff -m merge topic
        echo change >> new1
        git stash -q
        git stash pop -q
        git commit -qam change
        git mv new2 renamed
        git commit -qm renamed
        git push -q origin main
        git fsck --strict
    """, cwd=work)
    same(shell("git status --porcelain", cwd=work), "", "status")


@check(seconds=120)
def git_gc_and_fsck(there, here):
    work = clone(there, here)
    shell("""
        for number in $(seq 20); do echo $number > loose$number; git add .; git commit -qm $number; done
        git gc -q --aggressive --prune=now
        git repack -qadf
        git fsck --full --strict
    """, cwd=work)
    same(shell("git count-objects", cwd=work).split()[0], "0", "number of loose objects")


@check()
def git_sees_a_change_of_equal_size(there, here):
    work = clone(there, here)
    for text in ("one", "two", "six"):
        shell("""
            echo one > same; git add same; git commit -q --allow-empty -m one
            echo "$text" > same
        """, cwd=work, text=text)
        wanted = "" if text == "one" else " M same\n"
        same(shell("git status --porcelain", cwd=work), wanted, f"status with {text}")


@check(seconds=120)
def git_worktree_and_clone_back(there, here):
    work = clone(there, here)
    shell("""
        git worktree add -q ../second HEAD~1
        git -C ../second checkout -q -b other
        git worktree remove ../second
        git clone -q . "$back"
        git -C "$back" fsck --strict
    """, cwd=work, back=here / "back")
    same(shell("git rev-parse HEAD", cwd=here / "back"), shell("git rev-parse HEAD", cwd=work), "commit")
