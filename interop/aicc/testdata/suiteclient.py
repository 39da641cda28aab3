"""A client on the package for tmcp-conform: calls the tool echo, prints what it
says, and ends with 0, or with 1 when something went wrong."""

import asyncio
import os
import sys

out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # the package logs to standard output
sys.stdout = sys.stderr
os.environ["LOG_LEVEL"] = "CRITICAL"


async def main() -> None:
    from bytedance.jeddak_trusted_mcp import trusted_mcp_client

    with open("client_config.json", "w") as f:
        f.write('{"pub_key_path": "%s"}' % os.environ["TMCP_AICC_PUBLIC_KEY"])
    async with trusted_mcp_client(sys.argv[1], "client_config.json") as session:
        async with asyncio.timeout(6):
            await session.initialize()
            await session.list_tools()

            async def progress(*_):
                pass

            result = await session.call_tool("echo", {"text": os.environ["TMCP_ECHO"]}, progress_callback=progress)
            for part in result.content:
                out.write(part.text + "\n")
            out.flush()


try:
    asyncio.run(main())
    code = 0
except BaseException as e:
    print(repr(e), file=sys.stderr)
    code = 1
os._exit(code)
