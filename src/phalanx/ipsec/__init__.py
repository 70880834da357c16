"""PKI, IKE, XFRM, data planes, guards and counters of one instance."""
