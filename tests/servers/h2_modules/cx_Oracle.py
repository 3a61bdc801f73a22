"""H2 under the name of the driver, for processes that a test starts.

Its folder goes on their PYTHONPATH, and ``tests`` after it.
"""

import sys

from servers import h2_driver

sys.modules[__name__] = h2_driver
