#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# liburing's own test of passthrough passes, the newest that the kernel can pass:
# trixie's wants hybrid polling, which came with Linux 6.13.
set -eu
. ./bed.sh

# passthrough SERIAL NSID: where it cannot work it says so with 77, but here it
# has to
passthrough() {
	local suite=trixie
	case $(uname -r) in
	6.1.* | 6.12.*) suite=bookworm ;;
	esac
	../liburing/$suite/io_uring_passthrough "$(node "$1" "$2")"
}

test_head() {
	passthrough NVMENG-A 1
}

test_plain() {
	passthrough NVMENG-B 1
}

run_tests
