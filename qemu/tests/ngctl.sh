#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# ngctl and libnvmeng, by root and by a member of the group of a node.
set -eu
# shellcheck source=qemu/tests/bed.sh
. ./bed.sh
rm -rf /tmp/tools
cp -r ../tools /tmp/tools
export PATH=/tmp/tools/usr/bin:$PATH LD_LIBRARY_PATH=/tmp/tools/usr/lib

# node SERIAL NSID: as that of bed.sh, but without a process
node() {
	local device serial nsid
	for device in /sys/class/nvme-generic/ng*; do
		read -r serial <"$device/device/serial"
		read -r nsid <"$device/nsid"
		[ "$serial $nsid" = "$1 $2" ] || continue
		echo "/dev/${device##*/}"
		return
	done
	echo "no node of NSID $2 of $1"
	return 1
}

# member COMMAND...: as the unprivileged user
member() {
	env -C /tmp setpriv --reuid=tester --regid=tester --clear-groups "$@"
}

# lent MODE NODE...: the nodes belong to the group of that user
lent() {
	chgrp tester "${@:2}"
	chmod "$1" "${@:2}"
}

# taken NODE...: they are as the kernel makes them again
taken() {
	chgrp root "$@"
	chmod 600 "$@"
}

# says STATUS PATTERN COMMAND...: exit status and something that it prints
says() {
	local status=0
	"${@:3}" >/tmp/said 2>&1 || status=$?
	cat /tmp/said
	[ "$status" = "$1" ]
	[ -z "$2" ] || grep -q -e "$2" /tmp/said
}

test_list() {
	local device
	device=$(node NVMENG-B 2)
	says 0 "^$device  *NVMENG-B  *2  *Key Value  *keys 16 B, .* no  *nvme-ng" member ngctl list
	says 0 "^$(node NVMENG-A 3)  *NVMENG-A  *3  *NVM  *512+8 B extended, PI type 1 .* rw " ngctl list
	[ "$(ngctl list | wc -l)" = $(($(printf '%s\n' /dev/ng* | wc -l) + 1)) ]
}

test_info() {
	local device
	device=$(node NVMENG-A 4)
	says 0 '^size  *64 MiB$' ngctl info "$device"
	says 0 '^format  *512 B, zones 4 MiB$' member ngctl info "${device#/dev/}"
	says 2 '^ngctl: /dev/ngXn1: No such file' ngctl info ngXn1
	says 2 'is a block device' ngctl info "${device/ng/nvme}"
	says 2 'is not the node of a namespace' ngctl info /dev/null
}

# kv SERIAL NSID: by a member of the group
kv() {
	local device
	device=$(node "$1" "$2")
	says 2 'Permission denied: the mode of the node' member ngctl kv list "$device"
	lent 660 "$device"
	head -c 100000 /dev/urandom >/tmp/value
	member ngctl kv store "$device" colour <<<blue
	says 0 '^blue$' member ngctl kv retrieve "$device" colour
	member ngctl kv store "$device" hex:00ff20 /tmp/value
	member ngctl kv retrieve "$device" hex:00FF20 /tmp/value.read
	cmp /tmp/value /tmp/value.read
	says 1 'a key colour already' member ngctl kv store "$device" colour /tmp/value --new
	says 1 'no key other' member ngctl kv store "$device" other /tmp/value --replace
	[ "$(member ngctl kv list "$device" | sort)" = "colour
hex:00ff20" ]
	member ngctl kv exist "$device" colour
	member ngctl kv delete "$device" colour
	member ngctl kv delete "$device" hex:00ff20
	says 1 'no key colour' member ngctl kv retrieve "$device" colour
	says 1 '' member ngctl kv exist "$device" colour
	[ -z "$(member ngctl kv list "$device")" ]
	says 0 '^colour is red$' member /tmp/tools/kv-store "$device" colour red
	ngctl kv delete "$device" colour
	taken "$device"
}

test_kv_head() {
	kv NVMENG-A 5
}

test_kv_plain() {
	kv NVMENG-B 2
}

# More keys than a list has room for.
test_kv_many() {
	local device
	device=$(node NVMENG-D 2)
	python3 - "$device" <<-'END'
		import fcntl, struct, sys
		with open(sys.argv[1], "r+b", buffering=0) as node:
		    nsid = fcntl.ioctl(node, 0x4e40)
		    for number in range(300):
		        key = struct.unpack("<4I", f"many-{number:03}-of-300".encode().ljust(16))
		        fcntl.ioctl(node, 0xc0484e43, struct.pack(
		            "<BBHIIIQQ10I", 1, 0, 0, nsid, *key[:2], 0, 0, 0, 0, 0, 16, 0, 0,
		            *key[2:], 0, 0))
	END
	ngctl kv list "$device" >/tmp/many
	[ "$(wc -l </tmp/many)" = 300 ]
	[ "$(sort -u /tmp/many | wc -l)" = 300 ]
}

# What each command prints, by one interpreter.
test_json() {
	local device
	device=$(node NVMENG-D 2)
	sleep 100 >"$device" &
	until_true grep -qx sleep "/proc/$!/comm"
	printf '"\\\1\377' >/tmp/key
	ngctl kv store "$device" "$(cat /tmp/key)" </dev/null
	ngctl list --json >/tmp/list.json
	ngctl info "$device" --json >/tmp/info.json
	ngctl who --json >/tmp/who.json
	ngctl kv list "$device" --json >/tmp/kv.json
	ngctl top --interval 1 --count 1 --json >/tmp/top.json
	ngctl doctor "$device" --json >/tmp/doctor.json
	ngctl kv delete "$device" "$(cat /tmp/key)"
	kill $!
	wait $! || :
	python3 - <<-'END'
		import json
		def read(name):
		    with open(f"/tmp/{name}.json") as file:
		        return json.load(file)
		info = read("info")
		assert info["serial"] == "NVMENG-D" and info["max_key_len"] == 16
		assert [node for node in read("list") if node["node"] == info["node"]][0]["csi"] == 1
		assert [who for who in read("who") if who["comm"] == "sleep"][0]["mode"] == "w"
		assert chr(34) + chr(92) + chr(1) + chr(255) in read("kv")
		assert {node["node"] for node in read("top")["nodes"]} >= {info["node"]}
		assert all(result["ok"] for result in read("doctor"))
	END
}

test_kv_read_only() {
	local device
	device=$(node NVMENG-B 2)
	lent 640 "$device"
	says 2 'Permission denied' member ngctl kv store "$device" key </dev/null
	says 1 'no key key' member ngctl kv retrieve "$device" key
	taken "$device"
}

test_wrong_uses() {
	local device
	device=$(node NVMENG-B 2)
	says 2 'there is no command' ngctl nonsense
	says 2 'see ngctl kv --help' ngctl kv
	says 2 'has no option' ngctl kv list "$device" --new
	says 2 'other arguments' ngctl kv store "$device"
	says 2 '1 to 16 bytes' ngctl kv exist "$device" 0123456789abcdefg
	says 2 'not hexadecimal' ngctl kv exist "$device" hex:xy
	says 2 'not a Key Value namespace' ngctl kv list "$(node NVMENG-B 1)"
	says 2 'more than the .* bytes' ngctl kv store "$device" key /dev/zero
	says 2 'cannot write the output' sh -c 'ngctl list >/dev/full'
	for command in list info who kv doctor top; do
		says 0 "^usage: ngctl $command" ngctl $command --help
	done
}

test_who() {
	local device
	device=$(node NVMENG-B 1)
	# shellcheck disable=SC2217
	sleep 100 <"$device" &
	until_true grep -qx sleep "/proc/$!/comm"
	says 0 "^$device  *$!  *sleep  *0  *0 r " ngctl who "$device"
	kill $!
	wait $! || :
	[ "$(ngctl who "$device" | wc -l)" = 1 ]
	# a process says what it is called, which a terminal must not obey
	perl -e '$0 = "\e[31m"; open F, "<", shift; $| = 1; print "ready\n"; sleep 100' \
		"$device" >/tmp/named &
	until_true grep -q ready /tmp/named
	says 0 "^$device  *$!  *[?]\[31m " ngctl who "$device"
	kill $!
	wait $! || :
}

test_doctor() {
	local device
	device=$(node NVMENG-B 2)
	says 0 'the driver is nvme-ng' ngctl doctor
	says 1 'you may not open' member ngctl doctor "$device"
	lent 660 "$device"
	says 0 'memory can be mapped beforehand' member ngctl doctor "$device"
	says 0 'commands of rings take ring queues: nvme[0-9]* has [1-9]' \
		member ngctl doctor "$device"
	says 0 '02h needs any open node.* you may send' member ngctl doctor "$device" --opcode 2
	says 0 '10h needs a node that is open for writing' member ngctl doctor "$device" --opcode 0x10
	says 1 'admin command 80h needs CAP_SYS_ADMIN' member ngctl doctor "$device" --admin --opcode 0x80
	says 1 'needs what nobody has' ngctl doctor "$device" --admin --opcode 1
	taken "$device"
	says 1 'the format is not known' ngctl doctor "$(node NVMENG-E 1)"
}

# What udev asks for: the first line that fits, and none without one.
test_policy() {
	local policy=/tmp/tools/usr/lib/nvme-ng/node-policy
	local b2 b1 a5
	b2=$(node NVMENG-B 2)
	b1=$(node NVMENG-B 1)
	a5=$(node NVMENG-A 5)
	printf '%s\n' '# comment' 'NVMENG-B 2 * readers 0640' '* * kv writers 0660' \
		'* * nvm group$ 0660' '* * nvm nvme 0660' >/tmp/nodes.conf
	[ "$($policy "${b2#/dev/}" /tmp/nodes.conf 2>&1)" = "NVME_NG_GROUP=readers
NVME_NG_MODE=0640" ]
	[ "$($policy "${a5#/dev/}" /tmp/nodes.conf 2>&1)" = "NVME_NG_GROUP=writers
NVME_NG_MODE=0660" ]
	# after a wrong line none is looked at
	says 1 'no group and mode: group' $policy "${b1#/dev/}" /tmp/nodes.conf
	if grep NVME_NG_ /tmp/said; then return 1; fi
	printf '%s\n' '* * nvm nvme ro' '* * * nvme 0660' >/tmp/nodes.conf
	says 1 'no group and mode: nvme ro' $policy "${b1#/dev/}" /tmp/nodes.conf
	if grep NVME_NG_ /tmp/said; then return 1; fi
	printf '%s\n' '* * nvm few' '* * * nvme 0660' >/tmp/nodes.conf
	says 1 'a line must have' $policy "${b1#/dev/}" /tmp/nodes.conf
	if grep NVME_NG_ /tmp/said; then return 1; fi
	[ -z "$($policy "${a5#/dev/}" /tmp/tools/etc/nvme-ng/nodes.conf 2>&1)" ]
}

test_top() {
	says 0 "^$(node NVMENG-B 1) " ngctl top --interval 1 --count 1
}

library() {
	local nodes
	nodes="$(node "$1" "$2") $(node "$1" "$3") $(node "$1" "$4")"
	# shellcheck disable=SC2086
	lent 660 $nodes
	# shellcheck disable=SC2086
	member /tmp/tools/library $nodes
	# shellcheck disable=SC2086
	taken $nodes
}

test_library_head() {
	library NVMENG-A 1 5 4
}

test_library_plain() {
	library NVMENG-B 1 2 4
}

run_tests
