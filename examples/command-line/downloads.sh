#!/bin/sh
# Set: ZSEM_URL; -P, how many downloads run on this machine; -n, how many on all machines together.
# Reads one URL a line from standard input. xargs ends with 123 if a download has failed, and with 125 at a signal.
exec xargs -d '\n' -P 32 -I{} zsem run -n 100 downloads -- curl -fsSO --url {}
