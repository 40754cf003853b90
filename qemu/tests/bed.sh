# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
# For the tests beside this file: KTAP for every function named test_*, and the
# test bed's namespaces.

# node SERIAL NSID: the generic device of a namespace
node() {
	local device
	for device in /sys/class/nvme-generic/ng*; do
		[ "$(tr -d ' ' <"$device/device/serial")" = "$1" ] || continue
		nvme get-ns-id "/dev/${device##*/}" | grep -q ":$2\$" || continue
		echo "/dev/${device##*/}"
		return
	done
	echo "no node of NSID $2 of $1"
	return 1
}

# until_true COMMAND: wait up to half a minute
until_true() {
	local i
	for ((i = 0; i < 150; i++)); do
		! "$@" >/tmp/until || return 0
		sleep 0.2
	done
	cat /tmp/until
	echo "still not true: $*"
	return 1
}

# as_tester NODE COMMAND...: as the unprivileged user, who owns NODE meanwhile
as_tester() {
	local device=$1 status=0
	shift
	chown tester "$device"
	env -C /tmp setpriv --reuid=tester --regid=tester --clear-groups "$@" || status=$?
	chown root "$device"
	return $status
}

skip() {
	echo "# SKIP $*"
	exit 4
}

run_tests() {
	local tests number=0 bad=0 output status
	tests=$(declare -F | sed -n 's/^declare -f test_//p')
	[ -n "${KSFT_TAP_LEVEL:-}" ] || echo "TAP version 13"
	echo "1..$(echo "$tests" | wc -l)"
	for test in $tests; do
		number=$((number + 1))
		set +e
		output=$(
			exec 2>&1
			set -eE
			trap 'echo "$0 line $LINENO: failed: $BASH_COMMAND"' ERR
			"test_$test"
		)
		status=$?
		set -e
		case $status in
		0) echo "ok $number $test" ;;
		4) echo "ok $number $test $(echo "$output" | grep '^# SKIP')" ;;
		*)
			echo "# ${output//$'\n'/$'\n# '}"
			echo "not ok $number $test"
			bad=1
			;;
		esac
	done
	return $bad
}
