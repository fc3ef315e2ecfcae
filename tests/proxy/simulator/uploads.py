"""Forms with files, as clients upload them to a simulator."""

from __future__ import annotations

from typing import Any

from tests.proxy.simulator.http import KEY, Client

BOUNDARY = "bOuNdArY"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def form(*files: tuple[str, str, bytes], **fields: str) -> bytes:
    """`fields`, then `files`: the name of the part, of the file, and what is in it."""
    parts = [
        f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()
        for name, value in fields.items()
    ]
    for name, filename, content in files:
        head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\nContent-Type: text/x\r\n\r\n'
        parts.append(head.encode() + content)
    whole = b"".join(f"--{BOUNDARY}\r\n".encode() + part + b"\r\n" for part in parts)
    return whole + f"--{BOUNDARY}--\r\n".encode()


def skill_form(name: str = "greeting", **fields: str) -> bytes:
    about = f"---\nname: {name}\ndescription: How to greet\n---\nSay hello.\n".encode()
    return form(("files[]", f"{name}/SKILL.md", about), ("files[]", f"{name}/words.txt", b"hello"), **fields)


async def new_skill(client: Client, *, credential: str = KEY, **headers: str) -> Any:
    answer = await client.send(
        "POST", "/v1/skills", skill_form(), credential=credential, content_type=FORM, **headers
    )
    return answer.json()
