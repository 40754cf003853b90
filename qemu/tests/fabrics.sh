#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The rest of Linux' NVMe works with our modules: nvmet, nvme-tcp and nvme-loop.
# A namespace over these gets its node, and the NVM test passes over nvme-loop.
set -eu
. ./bed.sh

nvmet=/sys/kernel/config/nvmet

# target TRANSPORT PORT: export a namespace of the test bed
target() {
	local subsystem=$nvmet/subsystems/bed-$1 device
	device=$(node NVMENG-D 1)
	modprobe nvmet
	mkdir "$subsystem" "$subsystem/namespaces/1" "$nvmet/ports/$2"
	echo 1 >"$subsystem/attr_allow_any_host"
	echo "BED-$1" >"$subsystem/attr_serial"
	echo "/dev/nvme${device#/dev/ng}" >"$subsystem/namespaces/1/device_path"
	echo 1 >"$subsystem/namespaces/1/enable"
	echo "$1" >"$nvmet/ports/$2/addr_trtype"
	if [ "$1" = tcp ]; then
		echo ipv4 >"$nvmet/ports/$2/addr_adrfam"
		echo 127.0.0.1 >"$nvmet/ports/$2/addr_traddr"
		echo 4420 >"$nvmet/ports/$2/addr_trsvcid"
	fi
	ln -s "$subsystem" "$nvmet/ports/$2/subsystems/bed-$1"
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
	rm "$nvmet/ports/$2/subsystems/bed-$1"
	rmdir "$nvmet/ports/$2" "$nvmet/subsystems/bed-$1/namespaces/1" \
		"$nvmet/subsystems/bed-$1"
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

run_tests
