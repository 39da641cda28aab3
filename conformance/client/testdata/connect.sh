#!/bin/sh
# A client under test that is made of two: a plain MCP client, and tmcp connect
# beside it. CLIENT is the command of one of the interop fixtures' clients, TMCP
# that of tmcp:
#
#	CLIENT='gosdk client' TMCP=tmcp tmcp-conform client -- ./connect.sh
url=$1
if [ "$TMCP_TRUST" != required ]; then
	exec $CLIENT "$url"
fi
set -- connect --stdio --identity "$TMCP_IDENTITY" --carrier "$TMCP_CARRIER" --outer-era "$TMCP_ERA"
if [ -n "$TMCP_PIN" ]; then set -- "$@" --pin "$TMCP_PIN"; fi
if [ -n "$TMCP_CA" ]; then set -- "$@" --ca "$TMCP_CA"; fi
if [ -n "$TMCP_FRESH" ]; then set -- "$@" --fresh; fi
if [ -n "$TMCP_PAD" ]; then set -- "$@" --pad; fi
exec $CLIENT --stdio -- $TMCP "$@" "$url"
