"""Look into running trees from outside: a socket for the command line, and HTTP for a browser.

`serve` goes beside a tree, in any nursery, and `Observer` is the same as a value::

    address = await nursery.start(partial(serve, handle, port=0))
    print(address.url)

It shows what every child does, why it was restarted, how much more its supervisor can take and
what comes next. Started values, arguments, environments and locals never leave the process. The
extra ``observer`` has what it needs beside spry_py itself: ``pip install 'spry-py[observer]'``.
"""

from .address import Address
from .serving import Observer, serve

__all__ = ["Address", "Observer", "serve"]
