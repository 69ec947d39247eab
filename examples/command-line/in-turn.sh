#!/bin/sh
# Set: ZSEM_URL; ENVIRONMENT; -w, how long a pipeline may wait for those that came before; --lease, how long a deployment
# that died blocks the next one. What a deployment writes may carry $ZSEM_TOKEN, which rises with each of them.
# Call it as `in-turn.sh ./deploy.sh ARGUMENTS`. What it runs must not take the same name again: it would wait for itself.
exec zsem run -n 1 -w 30m --lease 1m "deploy/${ENVIRONMENT:?}" -- "$@"
