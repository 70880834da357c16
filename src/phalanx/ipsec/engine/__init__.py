"""ESP in userspace, for kernels without it: charon speaks XFRM to the engine, which carries packets between TUN and wire."""
