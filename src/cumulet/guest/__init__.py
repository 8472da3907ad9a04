"""The guest image `cumulet-guest`: a small server of Debian packages; boots from a disk, or from a kernel alone.

`build.build(out)` makes it.  What runs inside stands in `rootfs/`, as files that the guest gets as they are.
"""
