"""The page's server: FastAPI on this machine alone, every request with the link's token."""

from __future__ import annotations

import base64
import secrets
import tempfile
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ingest.errors import UserError
from train.view.gallery import Gallery

PAGE = Path(__file__).with_name("page.html")
_LARGEST = 64 << 20  # bytes of an image that is dropped in
_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def app(gallery: Gallery, token: str, host: str) -> FastAPI:
    """The ASGI application. Without the token nothing is answered; nor under another host's name (DNS rebinding).

    Nor is a request that another site's page makes, even where it knows the token.
    """

    def checked(request: Request) -> None:
        if not secrets.compare_digest(request.query_params.get("token", "").encode(), token.encode()):
            raise HTTPException(403, "open the link that train.view printed: it holds a token")
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != request.headers["host"]:
            raise HTTPException(403, "asked for by another page")

    served = FastAPI(dependencies=[Depends(checked)], docs_url=None, redoc_url=None, openapi_url=None)
    served.add_middleware(TrustedHostMiddleware, allowed_hosts=[host, "127.0.0.1", "localhost"])
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}

    @served.get("/")
    def page() -> Any:
        return HTMLResponse(PAGE.read_text(), headers={**headers, "Content-Security-Policy": _POLICY})

    @served.get("/facts")
    def facts() -> dict[str, Any]:
        keys = ("name", "classes", "palette", "run", "step")
        labeled, split = gallery.shards.labeled, gallery.shards.split
        return {**{key: gallery.facts[key] for key in keys}, "split": split, "labeled": labeled}

    @served.get("/samples")
    def samples() -> list[dict[str, Any]]:
        return gallery.samples()

    @served.get("/picture/{sample}/{kind}")
    def picture(sample: int, kind: str) -> Any:
        try:
            return Response(gallery.picture(sample, kind), media_type="image/png", headers=headers)
        except (KeyError, UserError) as error:
            raise HTTPException(404, str(error)) from error

    @served.post("/segment")
    async def segment(request: Request) -> dict[str, Any]:
        data = bytearray()
        async for part in request.stream():
            data += part
            if len(data) > _LARGEST:
                raise HTTPException(413, f"at most {_LARGEST >> 20} MB")
        try:
            image, mask, shares = await run_in_threadpool(gallery.segment, bytes(data))
        except UserError as error:
            raise HTTPException(422, str(error)) from error
        except OSError as error:  # the file is kept in the temporary folder for as long as it is read
            raise HTTPException(507, f"the file cannot be kept in {tempfile.gettempdir()}: {error.strerror}") from error
        return {"image": _uri(image), "prediction": _uri(mask), "shares": shares}

    return served


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
