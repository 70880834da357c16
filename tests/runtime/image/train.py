"""The program of the test image: does what its first argument names, as a program of a user might."""

import sys

exec(sys.argv[1] if len(sys.argv) > 1 else "print('nothing to do')")
