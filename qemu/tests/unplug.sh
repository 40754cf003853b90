#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Controllers can leave and come back, in every way that the test bed offers.
set -eu
. ./bed.sh

# controller ID: the PCI device in slot port-ID
controller() {
	local -A slots=([A0]=1 [A1]=2 [B]=3)
	echo "$(cat "/sys/bus/pci/slots/${slots[$1]}/address").0"
}

# present ID: is it a controller that works?
present() {
	grep -qs live "/sys/bus/pci/devices/$(controller "$1")/nvme"/nvme*/state
}

absent() {
	[ ! -e "/sys/bus/pci/devices/$(controller "$1")" ]
}

# node_gone SERIAL NSID
node_gone() {
	! node "$1" "$2"
}

test_remove_and_rescan() {
	present B
	for _ in 1 2 3; do
		echo 1 >"/sys/bus/pci/devices/$(controller B)/remove"
		absent B
		node_gone NVMENG-B 1
		echo 1 >/sys/bus/pci/rescan
		until_true present B
		until_true node NVMENG-B 5
	done
}

# One of two paths to the shared namespace goes and comes back.
test_unplug_and_plug() {
	present A1
	qmp device_del '{"id": "A1"}'
	until_true absent A1
	node NVMENG-A 7
	# Its name is free only when its slot is off.
	until_true qmp device_add '{"driver": "nvme", "id": "A1", "bus": "port-A1",
		"serial": "NVMENG-A", "subsys": "A"}'
	until_true present A1
	node NVMENG-A 7
}

# answer OPCODE: what the unprivileged user is told
answer() {
	as_tester "$(node NVMENG-A 7)" nvme io-passthru "$(node NVMENG-A 7)" \
		--opcode="$1" --namespace-id=7 --cdw10=0xffffffff --cdw11=0xffffffff \
		>/tmp/answer 2>&1 || :
	cat /tmp/answer
}

# judged: Verify may be sent, what the controller does not support may not
judged() {
	answer 0x0c | grep -i 'LBA Out of Range'
	answer 0x22 | grep -i 'Permission denied'
}

# The controller goes that told what commands do; the other path remains. What
# the freed memory holds is poison where the kernel was told to.
test_zy_effects_stay() {
	present A1
	judged
	qmp device_del '{"id": "A0"}'
	until_true absent A0
	for _ in 1 2 3; do
		sleep 1
		judged
	done
}

# Last: nothing brings this one back.
test_zz_slot_power() {
	present B
	echo 0 >/sys/bus/pci/slots/3/power
	until_true absent B
	node_gone NVMENG-B 1
	qmp qom-list '{"path": "/machine/peripheral"}' >/tmp/devices
	! grep '"B"' /tmp/devices
}

run_tests
