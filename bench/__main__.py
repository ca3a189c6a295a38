"""``python -m bench [NAME…]``: every bench, or those that are named; status 1 if a promise was not kept."""

import sys

from bench import diagnose, start, unpacked, verify
from bench.promise import Promise
from stage.namespaces import enter

BENCHES = {"verify": verify.run, "unpacked": unpacked.run, "diagnose": diagnose.run, "start": start.run}


def main(names: list[str]) -> int:
    """Run what is named."""
    unknown = set(names) - set(BENCHES)
    if unknown:
        sys.stderr.write(f"bench: no bench {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}\n")
        return 2
    enter()
    promises: list[Promise] = []
    for name, run in BENCHES.items():
        if not names or name in names:
            print(f"{name}: {run.__doc__}")
            for promise in run():
                print(f"  {promise}", flush=True)
                promises.append(promise)
    return 0 if all(promise.kept for promise in promises) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
