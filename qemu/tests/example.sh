#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The examples in the documentation, run by a user without privilege, and what
# README.md prints.
set -eu
. ./bed.sh
cp ../ng-read ../ng-array ../kv-hello ../readme-1 /tmp

# Each read of 64 KiB begins with a byte that tells whether it came.
reads_all() {
	local device reads output program
	device=$(node "$1" 1)
	reads=$(($(blockdev --getsize64 "${device/ng/nvme}") / 65536))
	tr '\0' '\3' </dev/zero | dd of="${device/ng/nvme}" bs=64K iflag=fullblock oflag=direct \
		count=$reads status=none
	for program in ng-read ng-array; do
		output=$(as_tester "$device" /tmp/$program "$device")
		echo "$output"
		[ "$output" = "$((reads * 65536)) bytes, first bytes add up to $((reads * 3))" ]
	done
}

test_sgl() {
	reads_all NVMENG-A
}

test_prp() {
	reads_all NVMENG-B
}

test_kv_hello() {
	local device
	for device in "$(node NVMENG-A 5)" "$(node NVMENG-B 2)"; do
		[ "$(as_tester "$device" /tmp/kv-hello "$device" sixteen-bytes-ab blue)" = \
			"4 bytes: blue" ]
	done
}

test_readme_program() {
	local device
	for device in "$(node NVMENG-A 5)" "$(node NVMENG-B 2)"; do
		[ "$(as_tester "$device" /tmp/readme-1 "$device")" = blue ]
	done
}

# No error, and the value.
says_blue() {
	local output
	output=$(cd /tmp && bash -euo pipefail "$1" 2>/tmp/errors | tr -d '\0') ||
		{ cat /tmp/errors; return 1; }
	echo "$output"
	echo "$output" | grep -q blue
}

test_readme_shell() {
	says_blue "$PWD/../readme-shell.sh"
}

test_key_value_shell() {
	says_blue "$PWD/../key-value-shell.sh"
}

test_no_permission() {
	local device
	device=$(node NVMENG-A 1)
	setpriv --reuid=tester --regid=tester --clear-groups /tmp/ng-read "$device" 2>&1 |
		grep 'Permission denied'
}

run_tests
