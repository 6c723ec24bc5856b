"""Between serialized ext_proc messages and this package's events and replies. The only user of message types.

Every request passes here thrice, so messages are read and written field by field.
"""

from extproc.wire.access_log import USAGE_TYPE, decode_log
from extproc.wire.decoding import decode
from extproc.wire.encoding import KEY_LENGTH, encode

__all__ = ["KEY_LENGTH", "USAGE_TYPE", "decode", "decode_log", "encode"]
