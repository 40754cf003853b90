#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The rest of Linux' NVMe works with our modules: nvmet, nvme-tcp and nvme-loop.
# A namespace over these gets its node, and the NVM test passes over nvme-loop.
# One node may have paths of PCIe and of these.
set -eu
. ./bed.sh

nvmet=/sys/kernel/config/nvmet

# target TRANSPORT PORT [NQN NSID]: export a namespace of the test bed
target() {
	local nqn=${3:-bed-$1} nsid=${4:-1} subsystem device
	subsystem=$nvmet/subsystems/$nqn
	device=$(node NVMENG-D 1)
	modprobe nvmet
	mkdir "$subsystem" "$subsystem/namespaces/$nsid" "$nvmet/ports/$2"
	echo 1 >"$subsystem/attr_allow_any_host"
	echo "BED-$1" >"$subsystem/attr_serial"
	# Linux knows none of a QEMU namespace, nor may its controllers be twice
	echo 100 >"$subsystem/attr_cntlid_min"
	[ "$nsid" = 1 ] || echo 00000000-0000-0000-0000-000000000000 \
		>"$subsystem/namespaces/$nsid/device_uuid"
	echo "/dev/nvme${device#/dev/ng}" >"$subsystem/namespaces/$nsid/device_path"
	echo 1 >"$subsystem/namespaces/$nsid/enable"
	echo "$1" >"$nvmet/ports/$2/addr_trtype"
	if [ "$1" = tcp ]; then
		echo ipv4 >"$nvmet/ports/$2/addr_adrfam"
		echo 127.0.0.1 >"$nvmet/ports/$2/addr_traddr"
		echo 4420 >"$nvmet/ports/$2/addr_trsvcid"
	fi
	ln -s "$subsystem" "$nvmet/ports/$2/subsystems/$nqn"
}

# untarget PORT [NQN NSID]
untarget() {
	local nqn=$2 nsid=$3
	rm "$nvmet/ports/$1/subsystems/$nqn"
	rmdir "$nvmet/ports/$1" "$nvmet/subsystems/$nqn/namespaces/$nsid" \
		"$nvmet/subsystems/$nqn"
}

# gone SERIAL
gone() {
	! node "$1" 1
}

# over TRANSPORT PORT TEST CONNECT-OPTION...: run TEST NODE
over() {
	modprobe "nvme-$1"
	target "$1" "$2"
	nvme connect --transport="$1" --nqn="bed-$1" "${@:4}"
	until_true node "BED-$1" 1
	"$3" "$(node "BED-$1" 1)"
	nvme disconnect --nqn="bed-$1"
	until_true gone "BED-$1"
	untarget "$2" "bed-$1" 1
	modprobe -r "nvme-$1"
}

test_loop() {
	modinfo nvme-loop >/dev/null 2>&1 ||
		skip "this kernel has no nvme-loop, nor is one among our modules"
	over loop 1 ../nvme/nvm
}

# nvme-tcp and nvmet-tcp on one machine are not fit for more: 6.1 has a bug there.
write_and_read() {
	head -c 65536 /dev/urandom >/tmp/written
	nvme write "$1" --block-count=127 --data-size=65536 --data=/tmp/written
	nvme read "$1" --block-count=127 --data-size=65536 --data=/tmp/read
	cmp /tmp/written /tmp/read
}

test_tcp() {
	modprobe nvmet-tcp
	over tcp 2 write_and_read --traddr=127.0.0.1 --trsvcid=4420
}

# paths DEVICE NUMBER: does the head have so many?
paths() {
	local head=${1#/dev/} paths
	paths=("/sys/class/nvme-generic/$head"/device/nvme*/nvme*c*"n${head##*n}")
	[ ${#paths[@]} = "$2" ]
}

# Commands take the paths in turn, and are polled for where they are.
test_mixed() {
	local device nqn subsystem transport=loop controller options=()
	if ! modinfo nvme-loop >/dev/null 2>&1; then
		transport=tcp
		modprobe nvmet-tcp
		options=(--traddr=127.0.0.1 --trsvcid=4420)
	fi
	modprobe "nvme-$transport"
	device=$(node NVMENG-A 7)
	subsystem=/sys/class/nvme-generic/${device#/dev/}/device
	nqn=$(cat "$subsystem/subsysnqn")
	target $transport 3 "$nqn" 7
	nvme connect --transport=$transport --nqn="$nqn" "${options[@]}"
	until_true paths "$device" 3
	echo round-robin >"$subsystem/iopolicy"
	../nvme/polled "$device"
	echo numa >"$subsystem/iopolicy"
	for controller in "$subsystem"/nvme*; do
		[ "$(cat "$controller/transport" 2>/dev/null)" != $transport ] ||
			echo 1 >"$controller/delete_controller"
	done
	until_true paths "$device" 2
	untarget 3 "$nqn" 7
}

run_tests
