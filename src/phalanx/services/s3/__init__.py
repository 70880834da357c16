"""The door of the embedded S3: who asks is told by their signature, and what they may do by their policies.

Unlike the other services it is a process of its own (`cli/door.py`), since gigabytes pass through it, and the
operations are another program's, which listens where nobody but this one reaches it.
"""
