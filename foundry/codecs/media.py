"""Images and documents as URLs: `data:` URLs taken apart and put together.

What it does not know: protocols, the network.
"""

from __future__ import annotations

from foundry.types.chat import File, Image

_PDF = "application/pdf"


def split_data_url(url: str) -> tuple[str, str] | None:
    """Media type and base64 text of a `data:` URL; None for any other URL."""
    if not url.startswith("data:"):
        return None
    head, _, data = url[5:].partition(",")
    media_type, _, encoding = head.partition(";")
    return (media_type, data) if encoding.endswith("base64") else None


def image_of(url: str, detail: str | None = None) -> Image:
    """An image by its URL, which may hold the image itself."""
    found = split_data_url(url)
    if found is None:
        return Image(url=url, detail=detail)
    return Image(media_type=found[0], data_base64=found[1], detail=detail)


def image_url(image: Image) -> str | None:
    """The URL of an image; None for one that is known by a file id only."""
    if image.data_base64 is not None:
        return f"data:{image.media_type or 'image/png'};base64,{image.data_base64}"
    return image.url


def file_of(
    data: str | None, *, filename: str | None, file_id: str | None = None, url: str | None = None
) -> File:
    """A document whose data is a `data:` URL or bare base64 of a PDF."""
    if data is None:
        return File(filename=filename, file_id=file_id, url=url)
    media_type, content = split_data_url(data) or (_PDF, data)
    return File(data_base64=content, media_type=media_type, filename=filename)


def file_data_url(file: File) -> str | None:
    """The document as a `data:` URL; None when its bytes are not here."""
    if file.data_base64 is None:
        return None
    return f"data:{file.media_type or _PDF};base64,{file.data_base64}"
