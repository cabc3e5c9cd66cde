import datetime

from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProfileKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROFILE_KIND_UNSPECIFIED: _ClassVar[ProfileKind]
    PROFILE_KIND_STEP: _ClassVar[ProfileKind]
    PROFILE_KIND_OP: _ClassVar[ProfileKind]
    PROFILE_KIND_NODE: _ClassVar[ProfileKind]
    PROFILE_KIND_PROGRAM: _ClassVar[ProfileKind]
    PROFILE_KIND_GROUP: _ClassVar[ProfileKind]

class GradMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GRAD_MODE_UNSPECIFIED: _ClassVar[GradMode]
    GRAD_MODE_NO_GRAD: _ClassVar[GradMode]
    GRAD_MODE_INFERENCE: _ClassVar[GradMode]

class Dtype(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[Dtype]
    DTYPE_BOOL: _ClassVar[Dtype]
    DTYPE_UINT8: _ClassVar[Dtype]
    DTYPE_INT8: _ClassVar[Dtype]
    DTYPE_INT16: _ClassVar[Dtype]
    DTYPE_INT32: _ClassVar[Dtype]
    DTYPE_INT64: _ClassVar[Dtype]
    DTYPE_FLOAT16: _ClassVar[Dtype]
    DTYPE_FLOAT32: _ClassVar[Dtype]
    DTYPE_FLOAT64: _ClassVar[Dtype]
    DTYPE_COMPLEX64: _ClassVar[Dtype]
    DTYPE_COMPLEX128: _ClassVar[Dtype]

class DerivativeMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DERIVATIVE_MODE_UNSPECIFIED: _ClassVar[DerivativeMode]
    DERIVATIVE_MODE_REVERSE: _ClassVar[DerivativeMode]
    DERIVATIVE_MODE_FORWARD: _ClassVar[DerivativeMode]

class HookKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HOOK_KIND_UNSPECIFIED: _ClassVar[HookKind]
    HOOK_KIND_TENSOR: _ClassVar[HookKind]
    HOOK_KIND_NODE_PRE: _ClassVar[HookKind]
    HOOK_KIND_NODE_POST: _ClassVar[HookKind]
    HOOK_KIND_POST_ACCUMULATE: _ClassVar[HookKind]
    HOOK_KIND_ALL: _ClassVar[HookKind]
    HOOK_KIND_ANY: _ClassVar[HookKind]
    HOOK_KIND_PACK: _ClassVar[HookKind]
    HOOK_KIND_UNPACK: _ClassVar[HookKind]

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    ERROR_REASON_SESSION_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_SEQUENCE_GAP: _ClassVar[ErrorReason]
    ERROR_REASON_SEQUENCE_CONFLICT: _ClassVar[ErrorReason]
    ERROR_REASON_SEQUENCE_FORGOTTEN: _ClassVar[ErrorReason]
    ERROR_REASON_MALFORMED_REQUEST: _ClassVar[ErrorReason]
    ERROR_REASON_CANCELLED: _ClassVar[ErrorReason]
    ERROR_REASON_DEADLINE_EXCEEDED: _ClassVar[ErrorReason]
    ERROR_REASON_SHUTTING_DOWN: _ClassVar[ErrorReason]
    ERROR_REASON_INTERNAL: _ClassVar[ErrorReason]
    ERROR_REASON_WORKER_UNREACHABLE: _ClassVar[ErrorReason]
    ERROR_REASON_STREAM_UNREAD: _ClassVar[ErrorReason]
    ERROR_REASON_HANDLE_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_HANDLE_IN_USE: _ClassVar[ErrorReason]
    ERROR_REASON_HANDLE_ABSENT: _ClassVar[ErrorReason]
    ERROR_REASON_BAD_PAGE_TOKEN: _ClassVar[ErrorReason]
    ERROR_REASON_NODE_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_UNKNOWN_OP: _ClassVar[ErrorReason]
    ERROR_REASON_WRONG_ARITY: _ClassVar[ErrorReason]
    ERROR_REASON_BAD_ATTRIBUTE: _ClassVar[ErrorReason]
    ERROR_REASON_BAD_VALUE: _ClassVar[ErrorReason]
    ERROR_REASON_SHAPE_MISMATCH: _ClassVar[ErrorReason]
    ERROR_REASON_DTYPE_MISMATCH: _ClassVar[ErrorReason]
    ERROR_REASON_DIM_OUT_OF_RANGE: _ClassVar[ErrorReason]
    ERROR_REASON_INDEX_OUT_OF_RANGE: _ClassVar[ErrorReason]
    ERROR_REASON_UNKNOWN_DTYPE: _ClassVar[ErrorReason]
    ERROR_REASON_PAYLOAD_MISMATCH: _ClassVar[ErrorReason]
    ERROR_REASON_NON_SCALAR_ROOT: _ClassVar[ErrorReason]
    ERROR_REASON_GRADIENT_SHAPE: _ClassVar[ErrorReason]
    ERROR_REASON_GRADIENT_DTYPE: _ClassVar[ErrorReason]
    ERROR_REASON_NO_GRAPH: _ClassVar[ErrorReason]
    ERROR_REASON_GRAPH_FREED: _ClassVar[ErrorReason]
    ERROR_REASON_SAVED_MODIFIED: _ClassVar[ErrorReason]
    ERROR_REASON_UNUSED_INPUT: _ClassVar[ErrorReason]
    ERROR_REASON_INPUT_NO_GRAD: _ClassVar[ErrorReason]
    ERROR_REASON_NO_INPUTS: _ClassVar[ErrorReason]
    ERROR_REASON_LEAF_IN_PLACE: _ClassVar[ErrorReason]
    ERROR_REASON_NON_LEAF_FLAG: _ClassVar[ErrorReason]
    ERROR_REASON_DTYPE_NO_GRAD: _ClassVar[ErrorReason]
    ERROR_REASON_NO_GRAD_TO_RETAIN: _ClassVar[ErrorReason]
    ERROR_REASON_IN_PLACE_SHAPE: _ClassVar[ErrorReason]
    ERROR_REASON_IN_PLACE_DTYPE: _ClassVar[ErrorReason]
    ERROR_REASON_MULTI_VIEW_IN_PLACE: _ClassVar[ErrorReason]
    ERROR_REASON_BAD_GRAD_ASSIGNMENT: _ClassVar[ErrorReason]
    ERROR_REASON_NO_GRAD_VIEW_IN_PLACE: _ClassVar[ErrorReason]
    ERROR_REASON_INFERENCE_TENSOR: _ClassVar[ErrorReason]
    ERROR_REASON_ANOMALY: _ClassVar[ErrorReason]
    ERROR_REASON_HOOK_SHAPE: _ClassVar[ErrorReason]
    ERROR_REASON_HOOK_NO_GRAD: _ClassVar[ErrorReason]
    ERROR_REASON_HOOK_NON_LEAF: _ClassVar[ErrorReason]
    ERROR_REASON_HOOK_FAILED: _ClassVar[ErrorReason]
    ERROR_REASON_ONCE_DIFFERENTIABLE: _ClassVar[ErrorReason]
    ERROR_REASON_HOOK_IN_PLACE: _ClassVar[ErrorReason]
    ERROR_REASON_HOOKS_DISABLED: _ClassVar[ErrorReason]
    ERROR_REASON_NOTHING_TO_CHECK: _ClassVar[ErrorReason]
    ERROR_REASON_MESSAGE_TOO_LARGE: _ClassVar[ErrorReason]
    ERROR_REASON_LIMIT_EXCEEDED: _ClassVar[ErrorReason]
    ERROR_REASON_QUEUE_FULL: _ClassVar[ErrorReason]
    ERROR_REASON_TOO_MANY_SESSIONS: _ClassVar[ErrorReason]
    ERROR_REASON_TRANSFER_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_TRANSFER_INCOMPLETE: _ClassVar[ErrorReason]
    ERROR_REASON_CHECKSUM_MISMATCH: _ClassVar[ErrorReason]
    ERROR_REASON_PROGRAM_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_PROGRAM_NAME_IN_USE: _ClassVar[ErrorReason]
    ERROR_REASON_PROGRAM_SIGNATURE: _ClassVar[ErrorReason]
PROFILE_KIND_UNSPECIFIED: ProfileKind
PROFILE_KIND_STEP: ProfileKind
PROFILE_KIND_OP: ProfileKind
PROFILE_KIND_NODE: ProfileKind
PROFILE_KIND_PROGRAM: ProfileKind
PROFILE_KIND_GROUP: ProfileKind
GRAD_MODE_UNSPECIFIED: GradMode
GRAD_MODE_NO_GRAD: GradMode
GRAD_MODE_INFERENCE: GradMode
DTYPE_UNSPECIFIED: Dtype
DTYPE_BOOL: Dtype
DTYPE_UINT8: Dtype
DTYPE_INT8: Dtype
DTYPE_INT16: Dtype
DTYPE_INT32: Dtype
DTYPE_INT64: Dtype
DTYPE_FLOAT16: Dtype
DTYPE_FLOAT32: Dtype
DTYPE_FLOAT64: Dtype
DTYPE_COMPLEX64: Dtype
DTYPE_COMPLEX128: Dtype
DERIVATIVE_MODE_UNSPECIFIED: DerivativeMode
DERIVATIVE_MODE_REVERSE: DerivativeMode
DERIVATIVE_MODE_FORWARD: DerivativeMode
HOOK_KIND_UNSPECIFIED: HookKind
HOOK_KIND_TENSOR: HookKind
HOOK_KIND_NODE_PRE: HookKind
HOOK_KIND_NODE_POST: HookKind
HOOK_KIND_POST_ACCUMULATE: HookKind
HOOK_KIND_ALL: HookKind
HOOK_KIND_ANY: HookKind
HOOK_KIND_PACK: HookKind
HOOK_KIND_UNPACK: HookKind
ERROR_REASON_UNSPECIFIED: ErrorReason
ERROR_REASON_SESSION_NOT_FOUND: ErrorReason
ERROR_REASON_SEQUENCE_GAP: ErrorReason
ERROR_REASON_SEQUENCE_CONFLICT: ErrorReason
ERROR_REASON_SEQUENCE_FORGOTTEN: ErrorReason
ERROR_REASON_MALFORMED_REQUEST: ErrorReason
ERROR_REASON_CANCELLED: ErrorReason
ERROR_REASON_DEADLINE_EXCEEDED: ErrorReason
ERROR_REASON_SHUTTING_DOWN: ErrorReason
ERROR_REASON_INTERNAL: ErrorReason
ERROR_REASON_WORKER_UNREACHABLE: ErrorReason
ERROR_REASON_STREAM_UNREAD: ErrorReason
ERROR_REASON_HANDLE_NOT_FOUND: ErrorReason
ERROR_REASON_HANDLE_IN_USE: ErrorReason
ERROR_REASON_HANDLE_ABSENT: ErrorReason
ERROR_REASON_BAD_PAGE_TOKEN: ErrorReason
ERROR_REASON_NODE_NOT_FOUND: ErrorReason
ERROR_REASON_UNKNOWN_OP: ErrorReason
ERROR_REASON_WRONG_ARITY: ErrorReason
ERROR_REASON_BAD_ATTRIBUTE: ErrorReason
ERROR_REASON_BAD_VALUE: ErrorReason
ERROR_REASON_SHAPE_MISMATCH: ErrorReason
ERROR_REASON_DTYPE_MISMATCH: ErrorReason
ERROR_REASON_DIM_OUT_OF_RANGE: ErrorReason
ERROR_REASON_INDEX_OUT_OF_RANGE: ErrorReason
ERROR_REASON_UNKNOWN_DTYPE: ErrorReason
ERROR_REASON_PAYLOAD_MISMATCH: ErrorReason
ERROR_REASON_NON_SCALAR_ROOT: ErrorReason
ERROR_REASON_GRADIENT_SHAPE: ErrorReason
ERROR_REASON_GRADIENT_DTYPE: ErrorReason
ERROR_REASON_NO_GRAPH: ErrorReason
ERROR_REASON_GRAPH_FREED: ErrorReason
ERROR_REASON_SAVED_MODIFIED: ErrorReason
ERROR_REASON_UNUSED_INPUT: ErrorReason
ERROR_REASON_INPUT_NO_GRAD: ErrorReason
ERROR_REASON_NO_INPUTS: ErrorReason
ERROR_REASON_LEAF_IN_PLACE: ErrorReason
ERROR_REASON_NON_LEAF_FLAG: ErrorReason
ERROR_REASON_DTYPE_NO_GRAD: ErrorReason
ERROR_REASON_NO_GRAD_TO_RETAIN: ErrorReason
ERROR_REASON_IN_PLACE_SHAPE: ErrorReason
ERROR_REASON_IN_PLACE_DTYPE: ErrorReason
ERROR_REASON_MULTI_VIEW_IN_PLACE: ErrorReason
ERROR_REASON_BAD_GRAD_ASSIGNMENT: ErrorReason
ERROR_REASON_NO_GRAD_VIEW_IN_PLACE: ErrorReason
ERROR_REASON_INFERENCE_TENSOR: ErrorReason
ERROR_REASON_ANOMALY: ErrorReason
ERROR_REASON_HOOK_SHAPE: ErrorReason
ERROR_REASON_HOOK_NO_GRAD: ErrorReason
ERROR_REASON_HOOK_NON_LEAF: ErrorReason
ERROR_REASON_HOOK_FAILED: ErrorReason
ERROR_REASON_ONCE_DIFFERENTIABLE: ErrorReason
ERROR_REASON_HOOK_IN_PLACE: ErrorReason
ERROR_REASON_HOOKS_DISABLED: ErrorReason
ERROR_REASON_NOTHING_TO_CHECK: ErrorReason
ERROR_REASON_MESSAGE_TOO_LARGE: ErrorReason
ERROR_REASON_LIMIT_EXCEEDED: ErrorReason
ERROR_REASON_QUEUE_FULL: ErrorReason
ERROR_REASON_TOO_MANY_SESSIONS: ErrorReason
ERROR_REASON_TRANSFER_NOT_FOUND: ErrorReason
ERROR_REASON_TRANSFER_INCOMPLETE: ErrorReason
ERROR_REASON_CHECKSUM_MISMATCH: ErrorReason
ERROR_REASON_PROGRAM_NOT_FOUND: ErrorReason
ERROR_REASON_PROGRAM_NAME_IN_USE: ErrorReason
ERROR_REASON_PROGRAM_SIGNATURE: ErrorReason

class CreateSessionRequest(_message.Message):
    __slots__ = ("ttl", "display_name", "seed")
    TTL_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    ttl: _duration_pb2.Duration
    display_name: str
    seed: int
    def __init__(self, ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., display_name: _Optional[str] = ..., seed: _Optional[int] = ...) -> None: ...

class CreateSessionResponse(_message.Message):
    __slots__ = ("session", "limits", "server_version", "features")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    session: Session
    limits: Limits
    server_version: str
    features: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., server_version: _Optional[str] = ..., features: _Optional[_Iterable[str]] = ...) -> None: ...

class GetSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class GetSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class ListSessionsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSessionsResponse(_message.Message):
    __slots__ = ("sessions", "next_page_token")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[Session]
    next_page_token: str
    def __init__(self, sessions: _Optional[_Iterable[_Union[Session, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class DeleteSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class KeepAliveRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class KeepAliveResponse(_message.Message):
    __slots__ = ("expire_time",)
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("id", "display_name", "create_time", "expire_time", "ttl", "last_number", "tensor_count", "tensor_bytes")
    ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    LAST_NUMBER_FIELD_NUMBER: _ClassVar[int]
    TENSOR_COUNT_FIELD_NUMBER: _ClassVar[int]
    TENSOR_BYTES_FIELD_NUMBER: _ClassVar[int]
    id: str
    display_name: str
    create_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    ttl: _duration_pb2.Duration
    last_number: int
    tensor_count: int
    tensor_bytes: int
    def __init__(self, id: _Optional[str] = ..., display_name: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., last_number: _Optional[int] = ..., tensor_count: _Optional[int] = ..., tensor_bytes: _Optional[int] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_message_bytes", "max_steps", "max_tensor_elements", "max_rank", "max_session_bytes", "max_session_tensors", "max_session_nodes", "max_sequence_flops", "max_queued_sequences", "max_queued_bytes", "max_programs", "max_program_bytes", "max_transfers", "transfer_seconds")
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    MAX_TENSOR_ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    MAX_RANK_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSION_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSION_TENSORS_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSION_NODES_FIELD_NUMBER: _ClassVar[int]
    MAX_SEQUENCE_FLOPS_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUED_SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUED_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PROGRAMS_FIELD_NUMBER: _ClassVar[int]
    MAX_PROGRAM_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_TRANSFERS_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_SECONDS_FIELD_NUMBER: _ClassVar[int]
    max_message_bytes: int
    max_steps: int
    max_tensor_elements: int
    max_rank: int
    max_session_bytes: int
    max_session_tensors: int
    max_session_nodes: int
    max_sequence_flops: int
    max_queued_sequences: int
    max_queued_bytes: int
    max_programs: int
    max_program_bytes: int
    max_transfers: int
    transfer_seconds: float
    def __init__(self, max_message_bytes: _Optional[int] = ..., max_steps: _Optional[int] = ..., max_tensor_elements: _Optional[int] = ..., max_rank: _Optional[int] = ..., max_session_bytes: _Optional[int] = ..., max_session_tensors: _Optional[int] = ..., max_session_nodes: _Optional[int] = ..., max_sequence_flops: _Optional[int] = ..., max_queued_sequences: _Optional[int] = ..., max_queued_bytes: _Optional[int] = ..., max_programs: _Optional[int] = ..., max_program_bytes: _Optional[int] = ..., max_transfers: _Optional[int] = ..., transfer_seconds: _Optional[float] = ...) -> None: ...

class UploadRequest(_message.Message):
    __slots__ = ("session_id", "upload", "total_bytes", "offset", "checksum", "padding", "data")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    upload: int
    total_bytes: int
    offset: int
    checksum: int
    padding: bytes
    data: bytes
    def __init__(self, session_id: _Optional[str] = ..., upload: _Optional[int] = ..., total_bytes: _Optional[int] = ..., offset: _Optional[int] = ..., checksum: _Optional[int] = ..., padding: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class UploadResponse(_message.Message):
    __slots__ = ("received_bytes",)
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    received_bytes: int
    def __init__(self, received_bytes: _Optional[int] = ...) -> None: ...

class DownloadRequest(_message.Message):
    __slots__ = ("session_id", "download", "offset")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    DOWNLOAD_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    download: int
    offset: int
    def __init__(self, session_id: _Optional[str] = ..., download: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class DownloadResponse(_message.Message):
    __slots__ = ("offset", "checksum", "padding", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    checksum: int
    padding: bytes
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., checksum: _Optional[int] = ..., padding: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class RunRequest(_message.Message):
    __slots__ = ("session_id", "sequence", "padding", "payloads")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    sequence: Sequence
    padding: bytes
    payloads: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, session_id: _Optional[str] = ..., sequence: _Optional[_Union[Sequence, _Mapping]] = ..., padding: _Optional[bytes] = ..., payloads: _Optional[_Iterable[bytes]] = ...) -> None: ...

class RunResponse(_message.Message):
    __slots__ = ("result", "padding", "payloads")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    result: SequenceResult
    padding: bytes
    payloads: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, result: _Optional[_Union[SequenceResult, _Mapping]] = ..., padding: _Optional[bytes] = ..., payloads: _Optional[_Iterable[bytes]] = ...) -> None: ...

class RunStreamRequest(_message.Message):
    __slots__ = ("session_id", "sequence", "cancel", "hook_answer", "padding", "payloads")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    HOOK_ANSWER_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    sequence: Sequence
    cancel: Cancel
    hook_answer: HookAnswer
    padding: bytes
    payloads: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, session_id: _Optional[str] = ..., sequence: _Optional[_Union[Sequence, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., hook_answer: _Optional[_Union[HookAnswer, _Mapping]] = ..., padding: _Optional[bytes] = ..., payloads: _Optional[_Iterable[bytes]] = ...) -> None: ...

class RunStreamResponse(_message.Message):
    __slots__ = ("result", "hook_call", "hook_result", "progress", "padding", "payloads")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    HOOK_CALL_FIELD_NUMBER: _ClassVar[int]
    HOOK_RESULT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    result: SequenceResult
    hook_call: HookCall
    hook_result: HookResult
    progress: Progress
    padding: bytes
    payloads: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, result: _Optional[_Union[SequenceResult, _Mapping]] = ..., hook_call: _Optional[_Union[HookCall, _Mapping]] = ..., hook_result: _Optional[_Union[HookResult, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., padding: _Optional[bytes] = ..., payloads: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class Sequence(_message.Message):
    __slots__ = ("number", "steps", "acknowledged", "timeout", "detect_anomaly", "profile", "note_origins")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    DETECT_ANOMALY_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    NOTE_ORIGINS_FIELD_NUMBER: _ClassVar[int]
    number: int
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    acknowledged: int
    timeout: _duration_pb2.Duration
    detect_anomaly: bool
    profile: bool
    note_origins: bool
    def __init__(self, number: _Optional[int] = ..., steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., acknowledged: _Optional[int] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., detect_anomaly: _Optional[bool] = ..., profile: _Optional[bool] = ..., note_origins: _Optional[bool] = ...) -> None: ...

class SequenceResult(_message.Message):
    __slots__ = ("number", "fetched", "error", "ended_hooks", "profile", "gradchecks")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    FETCHED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ENDED_HOOKS_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    GRADCHECKS_FIELD_NUMBER: _ClassVar[int]
    number: int
    fetched: _containers.RepeatedCompositeFieldContainer[FetchedTensor]
    error: Error
    ended_hooks: _containers.RepeatedScalarFieldContainer[int]
    profile: Profile
    gradchecks: _containers.RepeatedCompositeFieldContainer[GradcheckResult]
    def __init__(self, number: _Optional[int] = ..., fetched: _Optional[_Iterable[_Union[FetchedTensor, _Mapping]]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., ended_hooks: _Optional[_Iterable[int]] = ..., profile: _Optional[_Union[Profile, _Mapping]] = ..., gradchecks: _Optional[_Iterable[_Union[GradcheckResult, _Mapping]]] = ...) -> None: ...

class Profile(_message.Message):
    __slots__ = ("start_time", "duration_ns", "entries")
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    DURATION_NS_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    start_time: _timestamp_pb2.Timestamp
    duration_ns: int
    entries: _containers.RepeatedCompositeFieldContainer[ProfileEntry]
    def __init__(self, start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., duration_ns: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[ProfileEntry, _Mapping]]] = ...) -> None: ...

class ProfileEntry(_message.Message):
    __slots__ = ("kind", "name", "start_ns", "duration_ns", "inner_ns", "bytes", "count", "parent", "step", "node", "call")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    START_NS_FIELD_NUMBER: _ClassVar[int]
    DURATION_NS_FIELD_NUMBER: _ClassVar[int]
    INNER_NS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    kind: ProfileKind
    name: str
    start_ns: int
    duration_ns: int
    inner_ns: int
    bytes: int
    count: int
    parent: int
    step: int
    node: int
    call: int
    def __init__(self, kind: _Optional[_Union[ProfileKind, str]] = ..., name: _Optional[str] = ..., start_ns: _Optional[int] = ..., duration_ns: _Optional[int] = ..., inner_ns: _Optional[int] = ..., bytes: _Optional[int] = ..., count: _Optional[int] = ..., parent: _Optional[int] = ..., step: _Optional[int] = ..., node: _Optional[int] = ..., call: _Optional[int] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "details")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    details: _containers.RepeatedCompositeFieldContainer[_any_pb2.Any]
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., details: _Optional[_Iterable[_Union[_any_pb2.Any, _Mapping]]] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("op", "ops", "put", "backward", "grad", "fetch", "release", "requires_grad", "retain_grad", "get_grad", "set_grad", "register_hook", "remove_hook", "custom_function", "checkpoint", "get_saved", "jvp", "call_program", "gradcheck", "grad_mode", "saved_hooks")
    OP_FIELD_NUMBER: _ClassVar[int]
    OPS_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    BACKWARD_FIELD_NUMBER: _ClassVar[int]
    GRAD_FIELD_NUMBER: _ClassVar[int]
    FETCH_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    REQUIRES_GRAD_FIELD_NUMBER: _ClassVar[int]
    RETAIN_GRAD_FIELD_NUMBER: _ClassVar[int]
    GET_GRAD_FIELD_NUMBER: _ClassVar[int]
    SET_GRAD_FIELD_NUMBER: _ClassVar[int]
    REGISTER_HOOK_FIELD_NUMBER: _ClassVar[int]
    REMOVE_HOOK_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_FUNCTION_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    GET_SAVED_FIELD_NUMBER: _ClassVar[int]
    JVP_FIELD_NUMBER: _ClassVar[int]
    CALL_PROGRAM_FIELD_NUMBER: _ClassVar[int]
    GRADCHECK_FIELD_NUMBER: _ClassVar[int]
    GRAD_MODE_FIELD_NUMBER: _ClassVar[int]
    SAVED_HOOKS_FIELD_NUMBER: _ClassVar[int]
    op: Op
    ops: Ops
    put: Put
    backward: Backward
    grad: Grad
    fetch: Fetch
    release: Release
    requires_grad: RequiresGrad
    retain_grad: RetainGrad
    get_grad: GetGrad
    set_grad: SetGrad
    register_hook: RegisterHook
    remove_hook: RemoveHook
    custom_function: CustomFunction
    checkpoint: Checkpoint
    get_saved: GetSaved
    jvp: Jvp
    call_program: CallProgram
    gradcheck: Gradcheck
    grad_mode: GradMode
    saved_hooks: int
    def __init__(self, op: _Optional[_Union[Op, _Mapping]] = ..., ops: _Optional[_Union[Ops, _Mapping]] = ..., put: _Optional[_Union[Put, _Mapping]] = ..., backward: _Optional[_Union[Backward, _Mapping]] = ..., grad: _Optional[_Union[Grad, _Mapping]] = ..., fetch: _Optional[_Union[Fetch, _Mapping]] = ..., release: _Optional[_Union[Release, _Mapping]] = ..., requires_grad: _Optional[_Union[RequiresGrad, _Mapping]] = ..., retain_grad: _Optional[_Union[RetainGrad, _Mapping]] = ..., get_grad: _Optional[_Union[GetGrad, _Mapping]] = ..., set_grad: _Optional[_Union[SetGrad, _Mapping]] = ..., register_hook: _Optional[_Union[RegisterHook, _Mapping]] = ..., remove_hook: _Optional[_Union[RemoveHook, _Mapping]] = ..., custom_function: _Optional[_Union[CustomFunction, _Mapping]] = ..., checkpoint: _Optional[_Union[Checkpoint, _Mapping]] = ..., get_saved: _Optional[_Union[GetSaved, _Mapping]] = ..., jvp: _Optional[_Union[Jvp, _Mapping]] = ..., call_program: _Optional[_Union[CallProgram, _Mapping]] = ..., gradcheck: _Optional[_Union[Gradcheck, _Mapping]] = ..., grad_mode: _Optional[_Union[GradMode, str]] = ..., saved_hooks: _Optional[int] = ...) -> None: ...

class Op(_message.Message):
    __slots__ = ("name", "inputs", "output", "attributes", "results")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    inputs: _containers.RepeatedScalarFieldContainer[int]
    output: int
    attributes: _containers.RepeatedCompositeFieldContainer[Attribute]
    results: int
    def __init__(self, name: _Optional[str] = ..., inputs: _Optional[_Iterable[int]] = ..., output: _Optional[int] = ..., attributes: _Optional[_Iterable[_Union[Attribute, _Mapping]]] = ..., results: _Optional[int] = ...) -> None: ...

class Ops(_message.Message):
    __slots__ = ("forms", "calls", "handles")
    FORMS_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    HANDLES_FIELD_NUMBER: _ClassVar[int]
    forms: _containers.RepeatedCompositeFieldContainer[Op]
    calls: _containers.RepeatedScalarFieldContainer[int]
    handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, forms: _Optional[_Iterable[_Union[Op, _Mapping]]] = ..., calls: _Optional[_Iterable[int]] = ..., handles: _Optional[_Iterable[int]] = ...) -> None: ...

class Attribute(_message.Message):
    __slots__ = ("name", "bool_value", "int_value", "double_value", "complex_value", "string_value", "dtype_value", "int_list", "double_list", "tensor_list")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BOOL_VALUE_FIELD_NUMBER: _ClassVar[int]
    INT_VALUE_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_VALUE_FIELD_NUMBER: _ClassVar[int]
    COMPLEX_VALUE_FIELD_NUMBER: _ClassVar[int]
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_VALUE_FIELD_NUMBER: _ClassVar[int]
    INT_LIST_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_LIST_FIELD_NUMBER: _ClassVar[int]
    TENSOR_LIST_FIELD_NUMBER: _ClassVar[int]
    name: str
    bool_value: bool
    int_value: int
    double_value: float
    complex_value: Complex
    string_value: str
    dtype_value: Dtype
    int_list: IntList
    double_list: DoubleList
    tensor_list: TensorList
    def __init__(self, name: _Optional[str] = ..., bool_value: _Optional[bool] = ..., int_value: _Optional[int] = ..., double_value: _Optional[float] = ..., complex_value: _Optional[_Union[Complex, _Mapping]] = ..., string_value: _Optional[str] = ..., dtype_value: _Optional[_Union[Dtype, str]] = ..., int_list: _Optional[_Union[IntList, _Mapping]] = ..., double_list: _Optional[_Union[DoubleList, _Mapping]] = ..., tensor_list: _Optional[_Union[TensorList, _Mapping]] = ...) -> None: ...

class Complex(_message.Message):
    __slots__ = ("real", "imag")
    REAL_FIELD_NUMBER: _ClassVar[int]
    IMAG_FIELD_NUMBER: _ClassVar[int]
    real: float
    imag: float
    def __init__(self, real: _Optional[float] = ..., imag: _Optional[float] = ...) -> None: ...

class IntList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, values: _Optional[_Iterable[int]] = ...) -> None: ...

class DoubleList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class TensorList(_message.Message):
    __slots__ = ("tensors",)
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    tensors: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, tensors: _Optional[_Iterable[int]] = ...) -> None: ...

class Put(_message.Message):
    __slots__ = ("output", "dtype", "shape", "payload", "requires_grad", "upload")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    REQUIRES_GRAD_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    output: int
    dtype: Dtype
    shape: _containers.RepeatedScalarFieldContainer[int]
    payload: int
    requires_grad: bool
    upload: int
    def __init__(self, output: _Optional[int] = ..., dtype: _Optional[_Union[Dtype, str]] = ..., shape: _Optional[_Iterable[int]] = ..., payload: _Optional[int] = ..., requires_grad: _Optional[bool] = ..., upload: _Optional[int] = ...) -> None: ...

class Backward(_message.Message):
    __slots__ = ("tensors", "gradients", "retain_graph", "create_graph", "inputs", "edges", "input_edges")
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    RETAIN_GRAPH_FIELD_NUMBER: _ClassVar[int]
    CREATE_GRAPH_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    EDGES_FIELD_NUMBER: _ClassVar[int]
    INPUT_EDGES_FIELD_NUMBER: _ClassVar[int]
    tensors: _containers.RepeatedScalarFieldContainer[int]
    gradients: _containers.RepeatedScalarFieldContainer[int]
    retain_graph: bool
    create_graph: bool
    inputs: TensorList
    edges: _containers.RepeatedCompositeFieldContainer[GradientEdge]
    input_edges: _containers.RepeatedCompositeFieldContainer[GradientEdge]
    def __init__(self, tensors: _Optional[_Iterable[int]] = ..., gradients: _Optional[_Iterable[int]] = ..., retain_graph: _Optional[bool] = ..., create_graph: _Optional[bool] = ..., inputs: _Optional[_Union[TensorList, _Mapping]] = ..., edges: _Optional[_Iterable[_Union[GradientEdge, _Mapping]]] = ..., input_edges: _Optional[_Iterable[_Union[GradientEdge, _Mapping]]] = ...) -> None: ...

class GradientEdge(_message.Message):
    __slots__ = ("node", "nr")
    NODE_FIELD_NUMBER: _ClassVar[int]
    NR_FIELD_NUMBER: _ClassVar[int]
    node: int
    nr: int
    def __init__(self, node: _Optional[int] = ..., nr: _Optional[int] = ...) -> None: ...

class Grad(_message.Message):
    __slots__ = ("outputs", "inputs", "grad_outputs", "output", "retain_graph", "create_graph", "allow_unused", "materialize_grads", "is_grads_batched", "output_edges", "input_edges", "is_jacobian", "variables")
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    GRAD_OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    RETAIN_GRAPH_FIELD_NUMBER: _ClassVar[int]
    CREATE_GRAPH_FIELD_NUMBER: _ClassVar[int]
    ALLOW_UNUSED_FIELD_NUMBER: _ClassVar[int]
    MATERIALIZE_GRADS_FIELD_NUMBER: _ClassVar[int]
    IS_GRADS_BATCHED_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_EDGES_FIELD_NUMBER: _ClassVar[int]
    INPUT_EDGES_FIELD_NUMBER: _ClassVar[int]
    IS_JACOBIAN_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    outputs: _containers.RepeatedScalarFieldContainer[int]
    inputs: _containers.RepeatedScalarFieldContainer[int]
    grad_outputs: _containers.RepeatedScalarFieldContainer[int]
    output: int
    retain_graph: bool
    create_graph: bool
    allow_unused: bool
    materialize_grads: bool
    is_grads_batched: bool
    output_edges: _containers.RepeatedCompositeFieldContainer[GradientEdge]
    input_edges: _containers.RepeatedCompositeFieldContainer[GradientEdge]
    is_jacobian: bool
    variables: TensorList
    def __init__(self, outputs: _Optional[_Iterable[int]] = ..., inputs: _Optional[_Iterable[int]] = ..., grad_outputs: _Optional[_Iterable[int]] = ..., output: _Optional[int] = ..., retain_graph: _Optional[bool] = ..., create_graph: _Optional[bool] = ..., allow_unused: _Optional[bool] = ..., materialize_grads: _Optional[bool] = ..., is_grads_batched: _Optional[bool] = ..., output_edges: _Optional[_Iterable[_Union[GradientEdge, _Mapping]]] = ..., input_edges: _Optional[_Iterable[_Union[GradientEdge, _Mapping]]] = ..., is_jacobian: _Optional[bool] = ..., variables: _Optional[_Union[TensorList, _Mapping]] = ...) -> None: ...

class Jvp(_message.Message):
    __slots__ = ("outputs", "inputs", "tangents", "output", "create_graph", "is_jacobian", "variables")
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    TANGENTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    CREATE_GRAPH_FIELD_NUMBER: _ClassVar[int]
    IS_JACOBIAN_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    outputs: _containers.RepeatedScalarFieldContainer[int]
    inputs: _containers.RepeatedScalarFieldContainer[int]
    tangents: _containers.RepeatedScalarFieldContainer[int]
    output: int
    create_graph: bool
    is_jacobian: bool
    variables: TensorList
    def __init__(self, outputs: _Optional[_Iterable[int]] = ..., inputs: _Optional[_Iterable[int]] = ..., tangents: _Optional[_Iterable[int]] = ..., output: _Optional[int] = ..., create_graph: _Optional[bool] = ..., is_jacobian: _Optional[bool] = ..., variables: _Optional[_Union[TensorList, _Mapping]] = ...) -> None: ...

class Gradcheck(_message.Message):
    __slots__ = ("program", "inputs", "constants", "eps", "atol", "rtol", "nondet_tol", "modes", "second_order", "grad_outputs")
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    CONSTANTS_FIELD_NUMBER: _ClassVar[int]
    EPS_FIELD_NUMBER: _ClassVar[int]
    ATOL_FIELD_NUMBER: _ClassVar[int]
    RTOL_FIELD_NUMBER: _ClassVar[int]
    NONDET_TOL_FIELD_NUMBER: _ClassVar[int]
    MODES_FIELD_NUMBER: _ClassVar[int]
    SECOND_ORDER_FIELD_NUMBER: _ClassVar[int]
    GRAD_OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    program: Program
    inputs: _containers.RepeatedScalarFieldContainer[int]
    constants: _containers.RepeatedScalarFieldContainer[int]
    eps: float
    atol: float
    rtol: float
    nondet_tol: float
    modes: _containers.RepeatedScalarFieldContainer[DerivativeMode]
    second_order: bool
    grad_outputs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, program: _Optional[_Union[Program, _Mapping]] = ..., inputs: _Optional[_Iterable[int]] = ..., constants: _Optional[_Iterable[int]] = ..., eps: _Optional[float] = ..., atol: _Optional[float] = ..., rtol: _Optional[float] = ..., nondet_tol: _Optional[float] = ..., modes: _Optional[_Iterable[_Union[DerivativeMode, str]]] = ..., second_order: _Optional[bool] = ..., grad_outputs: _Optional[_Iterable[int]] = ...) -> None: ...

class GradcheckResult(_message.Message):
    __slots__ = ("agrees", "compared", "worst", "coarse_inputs")
    AGREES_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FIELD_NUMBER: _ClassVar[int]
    WORST_FIELD_NUMBER: _ClassVar[int]
    COARSE_INPUTS_FIELD_NUMBER: _ClassVar[int]
    agrees: bool
    compared: int
    worst: GradcheckDifference
    coarse_inputs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, agrees: _Optional[bool] = ..., compared: _Optional[int] = ..., worst: _Optional[_Union[GradcheckDifference, _Mapping]] = ..., coarse_inputs: _Optional[_Iterable[int]] = ...) -> None: ...

class GradcheckDifference(_message.Message):
    __slots__ = ("mode", "nondeterministic", "output", "input", "row", "column", "numerical", "analytical", "excess", "rows", "columns", "numerical_jacobian", "analytical_jacobian")
    MODE_FIELD_NUMBER: _ClassVar[int]
    NONDETERMINISTIC_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    NUMERICAL_FIELD_NUMBER: _ClassVar[int]
    ANALYTICAL_FIELD_NUMBER: _ClassVar[int]
    EXCESS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    NUMERICAL_JACOBIAN_FIELD_NUMBER: _ClassVar[int]
    ANALYTICAL_JACOBIAN_FIELD_NUMBER: _ClassVar[int]
    mode: DerivativeMode
    nondeterministic: bool
    output: int
    input: int
    row: int
    column: int
    numerical: float
    analytical: float
    excess: float
    rows: int
    columns: int
    numerical_jacobian: _containers.RepeatedScalarFieldContainer[float]
    analytical_jacobian: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, mode: _Optional[_Union[DerivativeMode, str]] = ..., nondeterministic: _Optional[bool] = ..., output: _Optional[int] = ..., input: _Optional[int] = ..., row: _Optional[int] = ..., column: _Optional[int] = ..., numerical: _Optional[float] = ..., analytical: _Optional[float] = ..., excess: _Optional[float] = ..., rows: _Optional[int] = ..., columns: _Optional[int] = ..., numerical_jacobian: _Optional[_Iterable[float]] = ..., analytical_jacobian: _Optional[_Iterable[float]] = ...) -> None: ...

class Fetch(_message.Message):
    __slots__ = ("tensors", "values", "info", "max_value_bytes", "bases", "downloads")
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    MAX_VALUE_BYTES_FIELD_NUMBER: _ClassVar[int]
    BASES_FIELD_NUMBER: _ClassVar[int]
    DOWNLOADS_FIELD_NUMBER: _ClassVar[int]
    tensors: _containers.RepeatedScalarFieldContainer[int]
    values: bool
    info: bool
    max_value_bytes: int
    bases: bool
    downloads: bool
    def __init__(self, tensors: _Optional[_Iterable[int]] = ..., values: _Optional[bool] = ..., info: _Optional[bool] = ..., max_value_bytes: _Optional[int] = ..., bases: _Optional[bool] = ..., downloads: _Optional[bool] = ...) -> None: ...

class FetchedTensor(_message.Message):
    __slots__ = ("tensor", "absent", "value", "info")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    tensor: int
    absent: bool
    value: TensorValue
    info: TensorInfo
    def __init__(self, tensor: _Optional[int] = ..., absent: _Optional[bool] = ..., value: _Optional[_Union[TensorValue, _Mapping]] = ..., info: _Optional[_Union[TensorInfo, _Mapping]] = ...) -> None: ...

class TensorValue(_message.Message):
    __slots__ = ("dtype", "shape", "payload", "download")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    DOWNLOAD_FIELD_NUMBER: _ClassVar[int]
    dtype: Dtype
    shape: _containers.RepeatedScalarFieldContainer[int]
    payload: int
    download: int
    def __init__(self, dtype: _Optional[_Union[Dtype, str]] = ..., shape: _Optional[_Iterable[int]] = ..., payload: _Optional[int] = ..., download: _Optional[int] = ...) -> None: ...

class TensorInfo(_message.Message):
    __slots__ = ("dtype", "shape", "requires_grad", "is_leaf", "retains_grad", "version", "grad_fn", "strides", "is_inference", "is_view", "base", "stale")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    REQUIRES_GRAD_FIELD_NUMBER: _ClassVar[int]
    IS_LEAF_FIELD_NUMBER: _ClassVar[int]
    RETAINS_GRAD_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GRAD_FN_FIELD_NUMBER: _ClassVar[int]
    STRIDES_FIELD_NUMBER: _ClassVar[int]
    IS_INFERENCE_FIELD_NUMBER: _ClassVar[int]
    IS_VIEW_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    dtype: Dtype
    shape: _containers.RepeatedScalarFieldContainer[int]
    requires_grad: bool
    is_leaf: bool
    retains_grad: bool
    version: int
    grad_fn: NodeRef
    strides: _containers.RepeatedScalarFieldContainer[int]
    is_inference: bool
    is_view: bool
    base: int
    stale: Error
    def __init__(self, dtype: _Optional[_Union[Dtype, str]] = ..., shape: _Optional[_Iterable[int]] = ..., requires_grad: _Optional[bool] = ..., is_leaf: _Optional[bool] = ..., retains_grad: _Optional[bool] = ..., version: _Optional[int] = ..., grad_fn: _Optional[_Union[NodeRef, _Mapping]] = ..., strides: _Optional[_Iterable[int]] = ..., is_inference: _Optional[bool] = ..., is_view: _Optional[bool] = ..., base: _Optional[int] = ..., stale: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("tensors", "programs", "downloads", "uploads")
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    PROGRAMS_FIELD_NUMBER: _ClassVar[int]
    DOWNLOADS_FIELD_NUMBER: _ClassVar[int]
    UPLOADS_FIELD_NUMBER: _ClassVar[int]
    tensors: _containers.RepeatedScalarFieldContainer[int]
    programs: _containers.RepeatedScalarFieldContainer[str]
    downloads: _containers.RepeatedScalarFieldContainer[int]
    uploads: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, tensors: _Optional[_Iterable[int]] = ..., programs: _Optional[_Iterable[str]] = ..., downloads: _Optional[_Iterable[int]] = ..., uploads: _Optional[_Iterable[int]] = ...) -> None: ...

class RequiresGrad(_message.Message):
    __slots__ = ("tensor", "value", "leaf_only")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LEAF_ONLY_FIELD_NUMBER: _ClassVar[int]
    tensor: int
    value: bool
    leaf_only: bool
    def __init__(self, tensor: _Optional[int] = ..., value: _Optional[bool] = ..., leaf_only: _Optional[bool] = ...) -> None: ...

class RetainGrad(_message.Message):
    __slots__ = ("tensor",)
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    tensor: int
    def __init__(self, tensor: _Optional[int] = ...) -> None: ...

class GetGrad(_message.Message):
    __slots__ = ("tensors", "outputs")
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    tensors: _containers.RepeatedScalarFieldContainer[int]
    outputs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, tensors: _Optional[_Iterable[int]] = ..., outputs: _Optional[_Iterable[int]] = ...) -> None: ...

class SetGrad(_message.Message):
    __slots__ = ("tensor", "grad")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    GRAD_FIELD_NUMBER: _ClassVar[int]
    tensor: int
    grad: int
    def __init__(self, tensor: _Optional[int] = ..., grad: _Optional[int] = ...) -> None: ...

class Program(_message.Message):
    __slots__ = ("inputs", "steps", "outputs")
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedScalarFieldContainer[int]
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    outputs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, inputs: _Optional[_Iterable[int]] = ..., steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., outputs: _Optional[_Iterable[int]] = ...) -> None: ...

class CreateProgramRequest(_message.Message):
    __slots__ = ("session_id", "name", "program", "input_types", "bindings", "grads", "request_id")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    INPUT_TYPES_FIELD_NUMBER: _ClassVar[int]
    BINDINGS_FIELD_NUMBER: _ClassVar[int]
    GRADS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    name: str
    program: Program
    input_types: _containers.RepeatedCompositeFieldContainer[InputType]
    bindings: _containers.RepeatedCompositeFieldContainer[Binding]
    grads: _containers.RepeatedCompositeFieldContainer[LeftGrad]
    request_id: str
    def __init__(self, session_id: _Optional[str] = ..., name: _Optional[str] = ..., program: _Optional[_Union[Program, _Mapping]] = ..., input_types: _Optional[_Iterable[_Union[InputType, _Mapping]]] = ..., bindings: _Optional[_Iterable[_Union[Binding, _Mapping]]] = ..., grads: _Optional[_Iterable[_Union[LeftGrad, _Mapping]]] = ..., request_id: _Optional[str] = ...) -> None: ...

class InputType(_message.Message):
    __slots__ = ("dtype", "shape", "requires_grad")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    REQUIRES_GRAD_FIELD_NUMBER: _ClassVar[int]
    dtype: Dtype
    shape: _containers.RepeatedScalarFieldContainer[int]
    requires_grad: bool
    def __init__(self, dtype: _Optional[_Union[Dtype, str]] = ..., shape: _Optional[_Iterable[int]] = ..., requires_grad: _Optional[bool] = ...) -> None: ...

class Binding(_message.Message):
    __slots__ = ("input", "tensor")
    INPUT_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    input: int
    tensor: int
    def __init__(self, input: _Optional[int] = ..., tensor: _Optional[int] = ...) -> None: ...

class LeftGrad(_message.Message):
    __slots__ = ("input", "grad")
    INPUT_FIELD_NUMBER: _ClassVar[int]
    GRAD_FIELD_NUMBER: _ClassVar[int]
    input: int
    grad: int
    def __init__(self, input: _Optional[int] = ..., grad: _Optional[int] = ...) -> None: ...

class CreateProgramResponse(_message.Message):
    __slots__ = ("program",)
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    program: StoredProgram
    def __init__(self, program: _Optional[_Union[StoredProgram, _Mapping]] = ...) -> None: ...

class StoredProgram(_message.Message):
    __slots__ = ("id", "name", "create_time", "input_count", "bound_count", "output_count", "step_count", "run_count", "input_types")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    INPUT_COUNT_FIELD_NUMBER: _ClassVar[int]
    BOUND_COUNT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_COUNT_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    RUN_COUNT_FIELD_NUMBER: _ClassVar[int]
    INPUT_TYPES_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    create_time: _timestamp_pb2.Timestamp
    input_count: int
    bound_count: int
    output_count: int
    step_count: int
    run_count: int
    input_types: _containers.RepeatedCompositeFieldContainer[InputType]
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., input_count: _Optional[int] = ..., bound_count: _Optional[int] = ..., output_count: _Optional[int] = ..., step_count: _Optional[int] = ..., run_count: _Optional[int] = ..., input_types: _Optional[_Iterable[_Union[InputType, _Mapping]]] = ...) -> None: ...

class ListProgramsRequest(_message.Message):
    __slots__ = ("session_id", "page_size", "page_token")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    page_size: int
    page_token: str
    def __init__(self, session_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListProgramsResponse(_message.Message):
    __slots__ = ("programs", "next_page_token")
    PROGRAMS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    programs: _containers.RepeatedCompositeFieldContainer[StoredProgram]
    next_page_token: str
    def __init__(self, programs: _Optional[_Iterable[_Union[StoredProgram, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteProgramRequest(_message.Message):
    __slots__ = ("session_id", "program")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    program: str
    def __init__(self, session_id: _Optional[str] = ..., program: _Optional[str] = ...) -> None: ...

class DeleteProgramResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExplainProgramRequest(_message.Message):
    __slots__ = ("session_id", "program", "inputs")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    program: str
    inputs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, session_id: _Optional[str] = ..., program: _Optional[str] = ..., inputs: _Optional[_Iterable[int]] = ...) -> None: ...

class ExplainProgramResponse(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class CallProgram(_message.Message):
    __slots__ = ("program", "inputs", "output", "skip_absent", "repeat", "output_count")
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    SKIP_ABSENT_FIELD_NUMBER: _ClassVar[int]
    REPEAT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_COUNT_FIELD_NUMBER: _ClassVar[int]
    program: str
    inputs: _containers.RepeatedScalarFieldContainer[int]
    output: int
    skip_absent: bool
    repeat: Repeat
    output_count: int
    def __init__(self, program: _Optional[str] = ..., inputs: _Optional[_Iterable[int]] = ..., output: _Optional[int] = ..., skip_absent: _Optional[bool] = ..., repeat: _Optional[_Union[Repeat, _Mapping]] = ..., output_count: _Optional[int] = ...) -> None: ...

class Repeat(_message.Message):
    __slots__ = ("count", "stacked", "feedback", "first", "progress")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    STACKED_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    count: int
    stacked: _containers.RepeatedScalarFieldContainer[int]
    feedback: _containers.RepeatedCompositeFieldContainer[Feedback]
    first: int
    progress: bool
    def __init__(self, count: _Optional[int] = ..., stacked: _Optional[_Iterable[int]] = ..., feedback: _Optional[_Iterable[_Union[Feedback, _Mapping]]] = ..., first: _Optional[int] = ..., progress: _Optional[bool] = ...) -> None: ...

class Feedback(_message.Message):
    __slots__ = ("output", "input")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    output: int
    input: int
    def __init__(self, output: _Optional[int] = ..., input: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("number", "step", "done", "count", "values")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    number: int
    step: int
    done: int
    count: int
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, number: _Optional[int] = ..., step: _Optional[int] = ..., done: _Optional[int] = ..., count: _Optional[int] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class CustomFunction(_message.Message):
    __slots__ = ("name", "inputs", "outputs", "saved", "backward", "once_differentiable", "partial", "dirty")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    SAVED_FIELD_NUMBER: _ClassVar[int]
    BACKWARD_FIELD_NUMBER: _ClassVar[int]
    ONCE_DIFFERENTIABLE_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    DIRTY_FIELD_NUMBER: _ClassVar[int]
    name: str
    inputs: _containers.RepeatedScalarFieldContainer[int]
    outputs: _containers.RepeatedScalarFieldContainer[int]
    saved: _containers.RepeatedScalarFieldContainer[int]
    backward: Program
    once_differentiable: bool
    partial: _containers.RepeatedCompositeFieldContainer[PartialBackward]
    dirty: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., inputs: _Optional[_Iterable[int]] = ..., outputs: _Optional[_Iterable[int]] = ..., saved: _Optional[_Iterable[int]] = ..., backward: _Optional[_Union[Program, _Mapping]] = ..., once_differentiable: _Optional[bool] = ..., partial: _Optional[_Iterable[_Union[PartialBackward, _Mapping]]] = ..., dirty: _Optional[_Iterable[int]] = ...) -> None: ...

class PartialBackward(_message.Message):
    __slots__ = ("present", "backward")
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    BACKWARD_FIELD_NUMBER: _ClassVar[int]
    present: _containers.RepeatedScalarFieldContainer[int]
    backward: Program
    def __init__(self, present: _Optional[_Iterable[int]] = ..., backward: _Optional[_Union[Program, _Mapping]] = ...) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("program", "inputs", "output")
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    program: Program
    inputs: _containers.RepeatedScalarFieldContainer[int]
    output: int
    def __init__(self, program: _Optional[_Union[Program, _Mapping]] = ..., inputs: _Optional[_Iterable[int]] = ..., output: _Optional[int] = ...) -> None: ...

class RegisterHook(_message.Message):
    __slots__ = ("hook", "kind", "tensor", "grad_fn_of", "node", "tensors", "max_value_bytes", "program", "unpack")
    HOOK_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    GRAD_FN_OF_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    MAX_VALUE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    UNPACK_FIELD_NUMBER: _ClassVar[int]
    hook: int
    kind: HookKind
    tensor: int
    grad_fn_of: int
    node: int
    tensors: TensorList
    max_value_bytes: int
    program: Program
    unpack: Program
    def __init__(self, hook: _Optional[int] = ..., kind: _Optional[_Union[HookKind, str]] = ..., tensor: _Optional[int] = ..., grad_fn_of: _Optional[int] = ..., node: _Optional[int] = ..., tensors: _Optional[_Union[TensorList, _Mapping]] = ..., max_value_bytes: _Optional[int] = ..., program: _Optional[_Union[Program, _Mapping]] = ..., unpack: _Optional[_Union[Program, _Mapping]] = ...) -> None: ...

class RemoveHook(_message.Message):
    __slots__ = ("hook",)
    HOOK_FIELD_NUMBER: _ClassVar[int]
    hook: int
    def __init__(self, hook: _Optional[int] = ...) -> None: ...

class HookCall(_message.Message):
    __slots__ = ("number", "hook", "call", "gradients", "replaceable", "create_graph")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    HOOK_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    REPLACEABLE_FIELD_NUMBER: _ClassVar[int]
    CREATE_GRAPH_FIELD_NUMBER: _ClassVar[int]
    number: int
    hook: int
    call: int
    gradients: _containers.RepeatedCompositeFieldContainer[FetchedTensor]
    replaceable: int
    create_graph: bool
    def __init__(self, number: _Optional[int] = ..., hook: _Optional[int] = ..., call: _Optional[int] = ..., gradients: _Optional[_Iterable[_Union[FetchedTensor, _Mapping]]] = ..., replaceable: _Optional[int] = ..., create_graph: _Optional[bool] = ...) -> None: ...

class HookAnswer(_message.Message):
    __slots__ = ("call", "steps", "gradients", "open", "replacements", "error", "unpack_hook")
    CALL_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    REPLACEMENTS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    UNPACK_HOOK_FIELD_NUMBER: _ClassVar[int]
    call: int
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    gradients: _containers.RepeatedScalarFieldContainer[int]
    open: bool
    replacements: _containers.RepeatedScalarFieldContainer[int]
    error: str
    unpack_hook: int
    def __init__(self, call: _Optional[int] = ..., steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., gradients: _Optional[_Iterable[int]] = ..., open: _Optional[bool] = ..., replacements: _Optional[_Iterable[int]] = ..., error: _Optional[str] = ..., unpack_hook: _Optional[int] = ...) -> None: ...

class HookResult(_message.Message):
    __slots__ = ("call", "fetched", "error", "gradchecks")
    CALL_FIELD_NUMBER: _ClassVar[int]
    FETCHED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    GRADCHECKS_FIELD_NUMBER: _ClassVar[int]
    call: int
    fetched: _containers.RepeatedCompositeFieldContainer[FetchedTensor]
    error: Error
    gradchecks: _containers.RepeatedCompositeFieldContainer[GradcheckResult]
    def __init__(self, call: _Optional[int] = ..., fetched: _Optional[_Iterable[_Union[FetchedTensor, _Mapping]]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., gradchecks: _Optional[_Iterable[_Union[GradcheckResult, _Mapping]]] = ...) -> None: ...

class NodeRef(_message.Message):
    __slots__ = ("id", "name", "nr")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NR_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    nr: int
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., nr: _Optional[int] = ...) -> None: ...

class GetGraphRequest(_message.Message):
    __slots__ = ("session_id", "tensors", "nodes", "page_size", "page_token", "max_depth")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MAX_DEPTH_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    tensors: _containers.RepeatedScalarFieldContainer[int]
    nodes: _containers.RepeatedScalarFieldContainer[int]
    page_size: int
    page_token: str
    max_depth: int
    def __init__(self, session_id: _Optional[str] = ..., tensors: _Optional[_Iterable[int]] = ..., nodes: _Optional[_Iterable[int]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., max_depth: _Optional[int] = ...) -> None: ...

class GetGraphResponse(_message.Message):
    __slots__ = ("nodes", "next_page_token", "roots")
    NODES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    next_page_token: str
    roots: _containers.RepeatedCompositeFieldContainer[GraphRoot]
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., roots: _Optional[_Iterable[_Union[GraphRoot, _Mapping]]] = ...) -> None: ...

class GraphRoot(_message.Message):
    __slots__ = ("tensor", "info", "gradient_edge")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_EDGE_FIELD_NUMBER: _ClassVar[int]
    tensor: int
    info: TensorInfo
    gradient_edge: NodeRef
    def __init__(self, tensor: _Optional[int] = ..., info: _Optional[_Union[TensorInfo, _Mapping]] = ..., gradient_edge: _Optional[_Union[NodeRef, _Mapping]] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("id", "name", "sequence_number", "next", "outputs", "variable", "op", "attributes", "released", "saved", "saved_attributes", "forward_ns", "backward_ns")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    VARIABLE_FIELD_NUMBER: _ClassVar[int]
    OP_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    SAVED_FIELD_NUMBER: _ClassVar[int]
    SAVED_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    FORWARD_NS_FIELD_NUMBER: _ClassVar[int]
    BACKWARD_NS_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    sequence_number: int
    next: _containers.RepeatedCompositeFieldContainer[NodeRef]
    outputs: _containers.RepeatedCompositeFieldContainer[TensorType]
    variable: int
    op: str
    attributes: _containers.RepeatedCompositeFieldContainer[Attribute]
    released: bool
    saved: _containers.RepeatedCompositeFieldContainer[SavedTensor]
    saved_attributes: _containers.RepeatedCompositeFieldContainer[Attribute]
    forward_ns: int
    backward_ns: int
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., sequence_number: _Optional[int] = ..., next: _Optional[_Iterable[_Union[NodeRef, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[TensorType, _Mapping]]] = ..., variable: _Optional[int] = ..., op: _Optional[str] = ..., attributes: _Optional[_Iterable[_Union[Attribute, _Mapping]]] = ..., released: _Optional[bool] = ..., saved: _Optional[_Iterable[_Union[SavedTensor, _Mapping]]] = ..., saved_attributes: _Optional[_Iterable[_Union[Attribute, _Mapping]]] = ..., forward_ns: _Optional[int] = ..., backward_ns: _Optional[int] = ...) -> None: ...

class GetSaved(_message.Message):
    __slots__ = ("node", "names", "outputs")
    NODE_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    node: int
    names: _containers.RepeatedScalarFieldContainer[str]
    outputs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, node: _Optional[int] = ..., names: _Optional[_Iterable[str]] = ..., outputs: _Optional[_Iterable[int]] = ...) -> None: ...

class SavedTensor(_message.Message):
    __slots__ = ("name", "type", "size_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: TensorType
    size_bytes: int
    def __init__(self, name: _Optional[str] = ..., type: _Optional[_Union[TensorType, _Mapping]] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class TensorType(_message.Message):
    __slots__ = ("dtype", "shape")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    dtype: Dtype
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, dtype: _Optional[_Union[Dtype, str]] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class ListOperatorsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListOperatorsResponse(_message.Message):
    __slots__ = ("operators", "next_page_token")
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    operators: _containers.RepeatedCompositeFieldContainer[Operator]
    next_page_token: str
    def __init__(self, operators: _Optional[_Iterable[_Union[Operator, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Operator(_message.Message):
    __slots__ = ("name", "schema", "kind", "grad_fn", "in_place", "aliases")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    GRAD_FN_FIELD_NUMBER: _ClassVar[int]
    IN_PLACE_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    name: str
    schema: str
    kind: str
    grad_fn: str
    in_place: bool
    aliases: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., schema: _Optional[str] = ..., kind: _Optional[str] = ..., grad_fn: _Optional[str] = ..., in_place: _Optional[bool] = ..., aliases: _Optional[_Iterable[str]] = ...) -> None: ...
