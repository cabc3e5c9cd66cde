"""Tensors that are too large for a message: those that come, and values that go, in pieces.

An `Upload` is memory that fills until a Put makes a tensor of it. A `Download` is a value as it was
when it was fetched; it shares the tensor's memory until something is about to change that.

Pieces are taken in and given out on the event loop, while a thread may run a sequence that puts an
upload, opens a download or is about to change what one shares.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from time import monotonic

import numpy as np
import numpy.typing as npt

from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import Payload, checksum, join_message, piece_bytes
from gradwire_server.errors import ServiceError
from gradwire_server.limits import exceeded
from gradwire_server.settings import Settings

Bytes = npt.NDArray[np.uint8]


class Upload:
    """Data on its way in.

    Attributes:
        number: the client's name for it.
        total: bytes that there will be.
        received: bytes that are there, from the start.
        data: where they are; None once it has ended.
        touched: when the last piece came, a time of `monotonic`.
    """

    __slots__ = ("data", "number", "received", "total", "touched")

    def __init__(self, number: int, total: int) -> None:
        self.number = number
        self.total = total
        self.received = 0
        self.data: Bytes | None = np.empty(total, np.uint8)
        self.touched = monotonic()

    def add(self, offset: int, piece: Payload, expected: int) -> None:
        """Take a piece in. What is there already is passed over, so a piece may come twice.

        Raises:
            ServiceError: CHECKSUM_MISMATCH, TRANSFER_INCOMPLETE, PAYLOAD_MISMATCH; or
                TRANSFER_NOT_FOUND if the upload has ended. Nothing of the piece was taken then.
        """
        if self.data is None:
            raise not_found("upload", self.number)
        self.touched = monotonic()
        length = len(piece)
        if checksum(piece) != expected:
            raise ServiceError(
                "CHECKSUM_MISMATCH",
                f"the {length:,} bytes from {offset:,} do not have the checksum that came with "
                "them; send them again",
                field="checksum",
                metadata={"offset": offset, "received_bytes": self.received},
            )
        if offset > self.received:
            raise ServiceError(
                "TRANSFER_INCOMPLETE",
                f"a piece from {offset:,} came where {self.received:,} bytes are there; go on "
                "from there",
                field="offset",
                metadata={"offset": offset, "received_bytes": self.received},
            )
        end = offset + length
        if end > self.total:
            raise ServiceError(
                "PAYLOAD_MISMATCH",
                f"a piece reaches to {end:,}, the upload has {self.total:,} bytes",
                field="data",
                metadata={"end": end, "total_bytes": self.total},
            )
        if end > self.received:
            view = memoryview(piece)[self.received - offset :]
            self.data[self.received : end] = np.frombuffer(view, np.uint8)
            self.received = end


class Download:
    """A value that waits to be read.

    Attributes:
        number: the server's name for it.
        data: its bytes.
        shared: they may be a tensor's, and change with it.
        touched: when the last piece was read, a time of `monotonic`.
    """

    __slots__ = ("data", "number", "shared", "touched")

    def __init__(self, number: int, data: Bytes, shared: bool) -> None:
        self.number = number
        self.data = data
        self.shared = shared
        self.touched = monotonic()


class Transfers:
    """The uploads and downloads of one session.

    Attributes:
        upload_bytes: memory of the uploads.
        downloads: by number; to be looked at only.
        opens_downloads: whether values may wait to be read.
        changed: whether there may be something to watch for expiry, or to account for. Reset by
            who has looked.
    """

    __slots__ = (
        "_closed",
        "_freed",
        "_lock",
        "_next",
        "_settings",
        "_uploads",
        "changed",
        "downloads",
        "opens_downloads",
        "upload_bytes",
    )

    def __init__(self, settings: Settings) -> None:
        self.upload_bytes = 0
        self.opens_downloads = True
        self.changed = False
        self._settings = settings
        self._lock = threading.Lock()
        self._uploads: dict[int, Upload] = {}
        self.downloads: dict[int, Download] = {}
        self._next = 1
        self._freed = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._uploads) + len(self.downloads)

    @property
    def arrays(self) -> list[Bytes]:
        """The memory of downloads, which may be a tensor's too."""
        with self._lock:
            return [each.data for each in self.downloads.values()]

    def require_room(self, count: int = 1) -> None:
        """Refuse more than there may be.

        Raises:
            ServiceError: LIMIT_EXCEEDED.
        """
        total = len(self) + count
        if total > self._settings.max_transfers:
            raise exceeded(
                "max_transfers",
                total,
                self._settings.max_transfers,
                "too many uploads and downloads are open; put, read or release some first",
            )

    def find_upload(self, number: int, total: int) -> Upload | None:
        """The upload of that number, to go on with.

        Raises:
            ServiceError: BAD_VALUE where it has another length.
        """
        found = self._uploads.get(number)
        if found is not None and found.total != total:
            raise ServiceError(
                "BAD_VALUE",
                f"upload {number} was begun with {found.total:,} bytes, and goes on with "
                f"{total:,}; give each tensor an upload of its own",
                field="total_bytes",
                metadata={"upload": number, "expected": found.total, "found": total},
            )
        return found

    def begin_upload(self, number: int, total: int) -> Upload:
        """Make room for data; that there may be so much was checked."""
        upload = Upload(number, total)
        with self._lock:
            if self._closed:
                raise not_found("upload", number)
            self._uploads[number] = upload
            self.upload_bytes += total
            self.changed = True
        return upload

    def uploaded(self, number: int) -> Bytes:
        """The data of an upload, all of which is there.

        Raises:
            ServiceError: TRANSFER_NOT_FOUND, TRANSFER_INCOMPLETE.
        """
        upload = self._uploads.get(number)
        data = None if upload is None else upload.data
        if upload is None or data is None:
            raise not_found("upload", number)
        if upload.received < upload.total:
            raise ServiceError(
                "TRANSFER_INCOMPLETE",
                f"upload {number} has {upload.received:,} of {upload.total:,} bytes; put it when "
                "all is there",
                metadata={
                    "upload": number,
                    "received_bytes": upload.received,
                    "total_bytes": upload.total,
                },
            )
        return data

    def open_download(self, array: np.ndarray) -> int:
        """Keep a value, to be read later; its number."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        with self._lock:
            number = self._next
            self._next += 1
            if not self._closed:
                download = Download(number, data, np.may_share_memory(data, array))
                self.downloads[number] = download
                self.changed = True
        return number

    def download(self, number: int) -> Download:
        """The download of that number.

        Raises:
            ServiceError: TRANSFER_NOT_FOUND.
        """
        found = self.downloads.get(number)
        if found is None:
            raise not_found("download", number)
        return found

    def piece(self, download: Download, offset: int) -> tuple[bytes, int]:
        """The message of the piece from an offset, and where the piece ends.

        Raises:
            ServiceError: TRANSFER_NOT_FOUND, if the download has ended meanwhile.
        """
        with self._lock:
            if self.downloads.get(download.number) is not download:
                raise not_found("download", download.number)
            download.touched = monotonic()
            size = piece_bytes(self._settings.max_message_bytes)
            piece = download.data[offset : offset + size]
            header = pb.DownloadResponse(offset=offset, checksum=checksum(piece.data))
            message = join_message(header.SerializeToString(), [piece.data])
        return message, offset + len(piece)

    def settle(self, admit: Callable[[int], None]) -> None:
        """Copy the values that tensors share: something is about to change one.

        Args:
            admit: Refuses memory beyond what there may be.
        """
        with self._lock:
            shared = [each for each in self.downloads.values() if each.shared]
        copies: dict[int, Bytes] = {}
        for each in shared:
            place = each.data.ctypes.data
            if place not in copies or len(copies[place]) != len(each.data):
                admit(each.data.nbytes)
                copies[place] = each.data.copy()
            with self._lock:
                each.data, each.shared = copies[place], False

    def release(self, downloads: Iterable[int], uploads: Iterable[int]) -> None:
        """Forget downloads and uploads; those that are not there are."""
        with self._lock:
            for number in downloads:
                self.downloads.pop(number, None)
            for number in uploads:
                self._end_upload(number)

    def expire(self) -> float | None:
        """Forget what nobody went on with; seconds until more may be, None if nothing is open."""
        seconds = self._settings.transfer_seconds
        now = monotonic()
        with self._lock:
            for number, upload in list(self._uploads.items()):
                if now - upload.touched >= seconds:
                    self._end_upload(number)
            for number, download in list(self.downloads.items()):
                if now - download.touched >= seconds:
                    del self.downloads[number]
            times = [each.touched for each in self._uploads.values()]
            times += [each.touched for each in self.downloads.values()]
        return min(times) + seconds - now if times else None

    def close(self) -> bool:
        """Forget everything, and take nothing more in; whether there was something."""
        self._closed = True
        if not len(self):
            return False
        with self._lock:
            self.downloads.clear()
            for number in list(self._uploads):
                self._end_upload(number)
        return True

    def take_freed(self) -> int:
        """Bytes of uploads that ended since this was last asked."""
        with self._lock:
            freed, self._freed = self._freed, 0
        return freed

    def _end_upload(self, number: int) -> None:
        upload = self._uploads.pop(number, None)
        if upload is not None:
            upload.data = None
            self.upload_bytes -= upload.total
            self._freed += upload.total
            self.changed = True


def not_found(kind: str, number: int) -> ServiceError:
    """The failure for an upload or a download that is not there."""
    return ServiceError(
        "TRANSFER_NOT_FOUND",
        f"there is no {kind} {number}: it was never begun, was used up or released, or nobody went "
        "on with it for transfer_seconds",
        field=kind,
        metadata={kind: number},
    )
