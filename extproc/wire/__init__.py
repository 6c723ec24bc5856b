"""Between serialized ext_proc messages and this package's events and replies. The only user of message types.

Every request passes here thrice, so messages are read and written field by field. The usual ones are read without
protobuf's objects (`extproc/lean.py`), all others with them.
"""

from extproc.wire.decoding import decode
from extproc.wire.encoding import KEY_LENGTH, encode
from extproc.wire.log import USAGE_TYPE, decode_log

__all__ = ["KEY_LENGTH", "USAGE_TYPE", "decode", "decode_log", "encode"]
