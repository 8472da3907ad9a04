"""Back ends that hold volumes: `driver` is what they all do, `local` keeps files on a host, `sim` keeps nothing but the
books.
"""
