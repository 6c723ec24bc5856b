"""Envoy's messages as Envoy has them, with strings and maps: what the other side of the wire writes and reads.

The gateway's own (`extproc._pb`) are relaxed forms of the same. Made out of `proto/`, by the same names.
"""

import typing

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from support.protos import files, messages

_pool = DescriptorPool()
for _file in files().values():
    _pool.AddSerializedFile(_file.SerializeToString())

_by_name = {name.rpartition(".")[2]: name for name in messages()}


def __getattr__(name: str) -> typing.Any:
    if name not in _by_name:
        raise AttributeError(name)
    return GetMessageClass(_pool.FindMessageTypeByName(_by_name[name]))
