"""What the checks of other compilers have in common: the kernels that `make` has written for them, and their last lines."""

import pathlib
import sys

FOLDER = pathlib.Path("target/kernels")


def kernels(ending):
    """Texts of the kernels by the names of their files."""
    texts = {file.name: file.read_text() for file in sorted(FOLDER.glob(f"*.{ending}"))}
    if not texts:
        sys.exit(f"no kernels in {FOLDER}: run this by `make test-dxc` or `make test-tint`, which write them")
    return texts


def end(texts, answers, checked):
    """Prints what a compiler said of each kernel, its errors and its warnings, and ends with whether all have passed."""
    where = {}
    for name, (_, warnings) in answers.items():
        for warning in set(warnings):
            where.setdefault(warning, []).append(name)
    for warning, names in sorted(where.items()):
        print(f"warning of {len(names)} kernels, first of {FOLDER / names[0]}:\n  {warning}")
    failed = {name: errors for name, (errors, _) in answers.items() if errors}
    for name, errors in failed.items():
        print(f"FAILED {FOLDER / name}: {texts[name].splitlines()[0]}", *errors, sep="\n")
    print(checked)
    print(f"{len(answers) - len(failed)} passed, {len(failed)} failed")
    sys.exit(len(failed) > 0)
