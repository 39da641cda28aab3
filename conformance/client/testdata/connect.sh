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
set -- connect --stdio --identity "$TMCP_IDENTITY" --outer-era "$TMCP_ERA"
if [ -n "$TMCP_CARRIER" ]; then set -- "$@" --carrier "$TMCP_CARRIER"; fi
if [ -n "$TMCP_PIN" ]; then set -- "$@" --pin "$TMCP_PIN"; fi
if [ -n "$TMCP_CA" ]; then set -- "$@" --ca "$TMCP_CA"; fi
if [ -n "$TMCP_FRESH" ]; then set -- "$@" --fresh; fi
if [ -n "$TMCP_PAD" ]; then set -- "$@" --pad; fi
if [ -n "$TMCP_PROFILE" ]; then
	set -- "$@" --profile "$TMCP_PROFILE"
	if [ -n "$TMCP_VERIFIER" ]; then
		set -- "$@" --verifier "$TMCP_VERIFIER" --verifier-key "$TMCP_VERIFIER_KEY"
	else
		set -- "$@" --policy "$TMCP_POLICY"
	fi
	if [ -n "$TMCP_SIMULATOR" ]; then set -- "$@" --simulator; fi
fi
if [ -n "$TMCP_FRESH_EVIDENCE" ]; then set -- "$@" --fresh-evidence; fi
if [ -n "$TMCP_CLIENT_KEY" ]; then set -- "$@" --client-key "$TMCP_CLIENT_KEY" --client-identity "$TMCP_CLIENT_IDENTITY"; fi
if [ -n "$TMCP_TEE" ]; then set -- "$@" --tee "$TMCP_TEE"; fi
exec $CLIENT --stdio -- $TMCP "$@" "$url"
