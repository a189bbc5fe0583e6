"""Break the lines on which everything depends, one at a time, and see whether a test fails.

Each mutant is a copy of the package in which one line says something else. A mutant that passes
the tests is a promise that nobody watches over.

    python tests/mutants.py            # all of them, about half an hour
    python tests/mutants.py 3 7        # some of them
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = (
    *("test_scheduler.py", "test_journal.py", "test_warned.py", "test_prefixes.py"),
    "test_faults.py",
)

# Some mutants wait for ever; pytest's own limit ends the test.
_TEST_TIMEOUT_S = 100


@dataclass(frozen=True)
class Mutant:
    """One line changed."""

    module: str
    old: str
    new: str
    says: str


MUTANTS = (
    Mutant(
        "scheduler", "if not task.has_ended:  #", "if True:  #", "an item may end twice"
    ),
    Mutant("scheduler", "task.n_deaths += 1", "task.n_deaths += 0", "nobody is ever to blame"),
    Mutant(
        "scheduler", "task.n_deaths >= MOST_DEATHS", "task.n_deaths > MOST_DEATHS",
        "four engines may die of an item",
    ),
    Mutant("scheduler", "self._lost.append(task)", "pass", "what a dead engine had is lost"),
    Mutant(
        "scheduler", "for task in (task for each in batches for task in each.tasks):",
        "for task in batches[0].tasks:", "what waited on a dead engine is lost",
    ),
    Mutant(
        "scheduler", "            return  # the other batch of this engine has brought the news\n",
        "            pass\n", "the second news of a death counts as another one",
    ),
    Mutant(
        "scheduler", "for task in batches[0].tasks:",
        "for task in [task for each in batches for task in each.tasks]:",
        "who only waited is to blame as well",
    ),
    Mutant("scheduler", "                or self._lost\n", "", "it ends while lost items wait"),
    Mutant("scheduler", "                    self._hand_over()\n", "                    pass\n",
           "nobody is told what has ended"),
    Mutant("scheduler", "                    raise fatal\n", "                    pass\n",
           "damaged data are passed over"),
    Mutant("scheduler", "        pool.replace(batch.engine)\n", "", "the dead are not replaced"),
    Mutant("scheduler", "            self._on_over()\n", "            pass\n",
           "the end is not told to the journal"),
    Mutant(
        "running",
        "        if self._journal is not None:\n"
        "            self._journal.append([each[1:] for each in done])\n",
        "", "nothing is journalled",
    ),
    Mutant("journal", "                flush(descriptor)\n", "", "lines stay in the page cache"),
    Mutant("journal", "                    os.ftruncate(descriptor, self._end)\n",
           "                    pass\n", "half a line stays where the disk was full"),
    Mutant("journal", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB",
           "two searches may write"),
    Mutant("journal", "            os.ftruncate(descriptor, journal.content.n_bytes)\n",
           "            pass\n", "a torn line is glued to the next one"),
    Mutant("journal", "    if there != here:\n", "    if False:\n", "other work is taken for this"),
    Mutant("journalfile", '        if checksum != b"%d}\\n" % zlib.crc32(body):\n',
           "        if False:\n", "checksums are not looked at"),
    Mutant("resume", "fresh = [item for item in taken if not self._replay(item)]",
           "fresh = list(taken)", "what is done is run again"),
    Mutant("queues", " or (candidate, split) in self._skipped:", ":", "what is done is run again"),
    Mutant("batch", "    except DamagedSplitsError:\n        raise\n", "",
           "damaged data are a candidate's fault"),
    Mutant("lostanswers", "lost = [each for each in missing if each in self._suspects]",
           "lost = []", "whose answer was lost is waited for, for ever"),
    Mutant("lostanswers", "            missing += awaited[: max(0, len(awaited) - n_known)]\n",
           "            missing += awaited\n", "what is at work is taken for lost"),
    Mutant("storedfile", "            self._check_stamp(os.fstat(descriptor))\n", "",
           "altered data are not noticed"),
    Mutant("evaluator", "        self.splits.check_unchanged()  # else", "        # else",
           "what was read from a file that was cut is believed"),
    Mutant("warned", "warnings.filters = list(_here(filters, len(sys.modules)))", "pass",
           "the client's filters of warnings do not hold"),
    Mutant("warned", "        warnings.showwarning = keep\n", "", "nobody hears of warnings"),
    Mutant("surroundings", "                os.chdir(folder)\n", "                pass\n",
           "an evaluation moves its engine"),
    Mutant("surroundings", "np.errstate()", "contextlib.nullcontext()",
           "numpy's error handling stays as an evaluation left it"),
    Mutant("prefixes", "                n_own = min(n_own, i)\n", "                pass\n",
           "a step without a copy spoils what is kept"),
    Mutant("prefixes", "X = _handed_out(level.transformed[part])", "X = level.transformed[part]",
           "an estimator writes into a frame that others get, too"),
    Mutant("prefixes", "        part.flags.writeable = False\n", "        pass\n",
           "an estimator writes into an array that others get, too"),
    Mutant("prefixes", "            reseed(budget.seed, _PREFIX, place[1], key[1])\n", "",
           "the luck of a prefix depends on what ran before"),
)  # fmt: skip


def killer_of(mutant: Mutant) -> str | None:
    """Run the tests on a mutant; give the first one that fails."""
    with tempfile.TemporaryDirectory(prefix="mscourse-mutant-") as name:
        package = Path(name) / "mscourse"
        shutil.copytree(ROOT / "mscourse", package, ignore=shutil.ignore_patterns("__pycache__"))
        path = package / f"{mutant.module}.py"
        text = path.read_text(encoding="utf-8")
        if text.count(mutant.old) != 1:  # a test sees to it
            sys.exit(f"{mutant.module}.py has {text.count(mutant.old)} times: {mutant.old!r}")
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        command = [
            *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
            *(f"--timeout={_TEST_TIMEOUT_S}", *TESTS),
        ]
        environment = os.environ | {"PYTHONPATH": name}
        ended = subprocess.run(
            command, cwd=ROOT / "tests", env=environment, capture_output=True, text=True
        )
    if ended.returncode == 0:
        return None
    killers = re.findall(r"^(?:FAILED|ERROR) \S*?::(\S+)", ended.stdout, re.MULTILINE)
    if killers:
        return str(killers[0])
    if "Timeout" in ended.stdout + ended.stderr:
        return "a test that took too long"
    sys.exit(f"The tests do not run on {mutant}:\n{ended.stdout}{ended.stderr}")


def main() -> int:
    """Run all mutants, or those of the given numbers; 1 if one survives."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("numbers", type=int, nargs="*", help="from 0 on; by default all")
    numbers = parser.parse_args().numbers or range(len(MUTANTS))
    survivors = []
    for number in numbers:
        mutant = MUTANTS[number]
        start_s = time.monotonic()
        killer = killer_of(mutant)
        survivors += [mutant] if killer is None else []
        end = "SURVIVES" if killer is None else f"killed by {killer}"
        print(
            f"{number:3}  {mutant.module}: {mutant.says}: {end}"
            f"  ({time.monotonic() - start_s:.0f} s)",
            flush=True,
        )
    print(f"{len(numbers) - len(survivors)} of {len(numbers)} mutants are killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
