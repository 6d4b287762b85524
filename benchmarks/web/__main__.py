"""HTTP service of one queue, in the queue's environment: `python -m benchmarks.web MODULE FRAMEWORK PORT`.

The service prints the versions of its packages as one line of JSON, and serves until it is ended.
"""

import json
import sys
from importlib import import_module
from importlib.metadata import version

import uvloop


def main(module: str, framework: str, port: int) -> None:
    """Run the service."""
    jobs = import_module(f"benchmarks.web.{module}").Service()
    frame = import_module(f"benchmarks.web.on_{framework}")
    print(json.dumps({name: version(name) for name in (*frame.packages, *jobs.packages)}), flush=True)
    uvloop.run(frame.serve(jobs, port))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
