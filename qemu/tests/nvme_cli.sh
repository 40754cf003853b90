#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# nvme-cli works on the nodes of every command set, heads and plain ones.
set -eu
. ./bed.sh

test_list() {
	nvme list >/tmp/list
	for device in /dev/ng*; do
		nvme get-ns-id "$device"
	done
	for serial in NVMENG-A NVMENG-B; do
		grep "$(node $serial 1) .*$serial" /tmp/list
	done
}

test_id_ns() {
	nvme id-ns "$(node NVMENG-A 1)" | grep 'nsze *: 0x20000$'
	nvme id-ns "$(node NVMENG-B 5)" | grep 'lbaf .*ms:8 .*lbads:12 .*(in use)'
	nvme id-ctrl "$(node NVMENG-B 2)" | grep 'sn *: NVMENG-B'
}

zones() {
	local device
	device=$(node "$1" 4)
	nvme zns report-zones "$device" | grep 'nr_zones: 16'
	nvme zns reset-zone "$device" --select-all
	head -c 8192 /dev/urandom >/tmp/zone
	nvme zns zone-append "$device" --zslba=0x2000 --data-size=8192 --data=/tmp/zone
	nvme zns report-zones "$device" | grep 'SLBA: 0x2000 .*WP: 0x2010 .*State: 0x20'
	nvme read "$device" --start-block=0x2000 --block-count=15 --data-size=8192 \
		--data=/tmp/zone.read
	cmp /tmp/zone /tmp/zone.read
}

test_zns_head() {
	zones NVMENG-A
}

test_zns_plain() {
	zones NVMENG-B
}

# kv SERIAL NSID: key "key", in CDW2 and not longer than that
kv() {
	local device
	device=$(node "$1" "$2")
	printf 'a value' >/tmp/value
	nvme io-passthru "$device" --opcode=1 --namespace-id="$2" --cdw2=0x79656b \
		--cdw10=7 --cdw11=3 --write --data-len=7 --input-file=/tmp/value
	nvme io-passthru "$device" --opcode=2 --namespace-id="$2" --cdw2=0x79656b \
		--cdw10=7 --cdw11=3 --read --data-len=7 --raw-binary >/tmp/value.read
	cmp /tmp/value /tmp/value.read
	nvme io-passthru "$device" --opcode=0x10 --namespace-id="$2" --cdw2=0x79656b --cdw11=3
	! nvme io-passthru "$device" --opcode=0x14 --namespace-id="$2" --cdw2=0x79656b --cdw11=3
}

test_kv_head() {
	kv NVMENG-A 5
}

test_kv_plain() {
	kv NVMENG-B 2
}

test_unknown_command_set() {
	local device
	device=$(node NVMENG-B 3)
	head -c 4096 /dev/urandom >/tmp/echo
	nvme io-passthru "$device" --opcode=5 --namespace-id=3 --cdw10=4096 --write \
		--data-len=4096 --input-file=/tmp/echo
	nvme io-passthru "$device" --opcode=6 --namespace-id=3 --cdw10=4096 --read \
		--data-len=4096 --raw-binary >/tmp/echo.read
	cmp /tmp/echo /tmp/echo.read
}

# refused COMMAND...: it fails
refused() {
	! "$@"
}

# It opens nodes for reading only, so that reading is all that a user can do.
test_tester() {
	local device
	device=$(node NVMENG-B 1)
	head -c 4096 /dev/urandom >/tmp/block
	nvme write "$device" --block-count=7 --data-size=4096 --data=/tmp/block
	as_tester "$device" nvme read "$device" --block-count=7 --data-size=4096 >/tmp/block.read
	cmp /tmp/block /tmp/block.read
	as_tester "$device" nvme id-ns "$device" | grep 'nsze *: 0x20000$'
	as_tester "$device" nvme id-ctrl "$device" | grep 'sn *: NVMENG-B'
	refused as_tester "$device" nvme write "$device" --block-count=7 --data-size=4096 --data=/tmp/block
	refused as_tester "$device" nvme smart-log "$device"
}

test_tester_kv() {
	local device
	device=$(node NVMENG-B 2)
	printf 'a value' >/tmp/value
	nvme io-passthru "$device" --opcode=1 --namespace-id=2 --cdw2=0x79656b \
		--cdw10=7 --cdw11=3 --write --data-len=7 --input-file=/tmp/value
	as_tester "$device" nvme io-passthru "$device" --opcode=2 --namespace-id=2 --cdw2=0x79656b \
		--cdw10=7 --cdw11=3 --read --data-len=7 --raw-binary >/tmp/value.read
	cmp /tmp/value /tmp/value.read
	refused as_tester "$device" nvme io-passthru "$device" --opcode=0x10 --namespace-id=2 \
		--cdw2=0x79656b --cdw11=3
	nvme io-passthru "$device" --opcode=0x10 --namespace-id=2 --cdw2=0x79656b --cdw11=3
}

run_tests
