"""What is measured: each module writes ``build/bench/NAME.json``; ``run_all`` writes the results page.

Threads are held to one here, before numpy is imported anywhere: figures are for one core.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[_name] = "1"
