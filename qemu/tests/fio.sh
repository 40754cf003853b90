#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# fio verifies data through io_uring commands.
set -eu
. ./bed.sh

user=

# verify DEVICE OPTION...
verify() {
	local device=$1
	shift
	${user:+as_tester "$device"} fio --name=verify --filename="$device" --ioengine=io_uring_cmd --cmd_type=nvme \
		--rw=randwrite --size=2m --iodepth=16 --verify=crc32c --do_verify=1 \
		--verify_fatal=1 --output-format=terse --group_reporting "$@"
}

# zoned DEVICE: fill a zone, which root has reset; fio cannot use O_DIRECT with
# zones on a character device
zoned() {
	nvme zns reset-zone "$1" --select-all
	verify "$1" --rw=write --size=4m --bs=16k --zonemode=zbd --max_open_zones=4
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

test_vectored() {
	verify "$(node NVMENG-A 1)" --bs=64k --nonvectored=0
	verify "$(node NVMENG-B 1)" --bs=16k --nonvectored=0
}

test_fixed_vectored() {
	verify "$(node NVMENG-A 1)" --bs=64k --nonvectored=0 --fixedbufs=1
	verify "$(node NVMENG-B 1)" --bs=16k --nonvectored=0 --fixedbufs=1
}

test_fixed_polled() {
	verify "$(node NVMENG-A 1)" --bs=16k --fixedbufs=1 --hipri=1
}

test_polled_thread() {
	verify "$(node NVMENG-B 1)" --bs=4k --hipri=1 --sqthread_poll=1
}

test_separate_metadata() {
	verify "$(node NVMENG-A 2)" --bs=8k --md_per_io_size=16
}

test_separate_metadata_plain() {
	verify "$(node NVMENG-B 5)" --bs=8k --md_per_io_size=16
}

# format DEVICE MS PI: the same format with another place and kind of metadata
format() {
	local lbaf
	lbaf=$(nvme id-ns "$1" | sed -n 's/^lbaf *\([0-9]*\) .*(in use).*/\1/p')
	nvme format "$1" --lbaf="$lbaf" --ms="$2" --pi="$3" --force
}

test_extended_metadata() {
	local device
	device=$(node NVMENG-A 3)
	format "$device" 1 0
	verify "$device" --bs=4160
	format "$device" 1 1
}

# The controller inserts, checks and strips protection information.
test_extended_protection() {
	local device pi
	device=$(node NVMENG-A 3)
	for pi in 2 3 1; do
		format "$device" 1 $pi
		verify "$device" --bs=4k --pi_act=1 --pi_chk=GUARD,APPTAG
	done
}

# fio makes it, the controller and fio check it.
separate_protection() {
	local pi
	for pi in 1 2 3; do
		format "$1" 0 $pi
		verify "$1" --bs=8k --md_per_io_size=16 --pi_act=0 \
			--pi_chk=GUARD,APPTAG
	done
	format "$1" 0 0
}

test_separate_protection() {
	separate_protection "$(node NVMENG-A 2)"
	separate_protection "$(node NVMENG-B 5)"
}

test_zoned_head() {
	zoned "$(node NVMENG-A 4)"
}

test_zoned_plain() {
	zoned "$(node NVMENG-B 4)"
}

# What the rules let the owner of a node do who is not root.
test_tester() {
	user=tester
	verify "$(node NVMENG-A 1)" --bs=4k
	verify "$(node NVMENG-B 1)" --bs=16k --fixedbufs=1
	verify "$(node NVMENG-B 1)" --bs=4k --hipri=1
	verify "$(node NVMENG-A 1)" --bs=16k --nonvectored=0
	verify "$(node NVMENG-A 2)" --bs=8k --md_per_io_size=16
	verify "$(node NVMENG-A 3)" --bs=4k --pi_act=1 --pi_chk=GUARD,APPTAG
}

test_tester_zoned() {
	user=tester
	zoned "$(node NVMENG-A 4)"
	zoned "$(node NVMENG-B 4)"
}

run_tests
