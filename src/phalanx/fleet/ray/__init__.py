"""The fleet across hosts, carried by Ray: who is there, who has failed, and calls to their agents over mutual TLS.

Instances, their network and their keys are the node agents', which know nothing of Ray and outlive it.
"""
