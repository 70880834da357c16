"""What several rooms need of Linux, and of no other room: files, netlink, nftables, signals. Knows nothing of Phalanx."""
