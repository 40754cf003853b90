#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# fio verifies data through io_uring commands.
set -eu
. ./bed.sh

# verify DEVICE OPTION...
verify() {
	local device=$1
	shift
	fio --name=verify --filename="$device" --ioengine=io_uring_cmd --cmd_type=nvme \
		--rw=randwrite --size=4m --iodepth=16 --verify=crc32c --do_verify=1 \
		--verify_fatal=1 --output-format=terse --group_reporting "$@"
}

# zoned DEVICE: fio cannot use O_DIRECT with zones on a character device
zoned() {
	nvme zns reset-zone "$1" --select-all
	verify "$1" --rw=write --bs=16k --zonemode=zbd --max_open_zones=4
}

test_head() {
	verify "$(node NVMENG-A 1)" --bs=4k
}

test_plain() {
	verify "$(node NVMENG-B 1)" --bs=4k
}

test_fixed() {
	verify "$(node NVMENG-A 1)" --bs=64k --fixedbufs=1
}

test_polled() {
	verify "$(node NVMENG-B 1)" --bs=4k --hipri=1
}

test_separate_metadata() {
	verify "$(node NVMENG-A 2)" --bs=8k --md_per_io_size=16
}

test_separate_metadata_plain() {
	verify "$(node NVMENG-B 5)" --bs=8k --md_per_io_size=16
}

# extended DEVICE: fio cannot verify this format with protection information on
extended() {
	local lbaf
	lbaf=$(nvme id-ns "$1" | sed -n 's/^lbaf *\([0-9]*\) .*(in use).*/\1/p')
	nvme format "$1" --lbaf="$lbaf" --ms=1 --pi=0 --force
	verify "$1" --bs=4160
	nvme format "$1" --lbaf="$lbaf" --ms=1 --pi=1 --force
}

test_extended_metadata() {
	extended "$(node NVMENG-A 3)"
}

test_zoned_head() {
	zoned "$(node NVMENG-A 4)"
}

test_zoned_plain() {
	zoned "$(node NVMENG-B 4)"
}

run_tests
