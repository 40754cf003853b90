#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Run installed selftests, with the options and the output that the kernel's
# runner of this name has.
set -u

usage() {
	cat <<'EOF'
usage: run_kselftest.sh [OPTION]...

  -t, --test COLLECTION:TEST   run this test; may be repeated
  -c, --collection COLLECTION  run all tests of this collection; may be repeated
  -S, --skip COLLECTION:TEST   leave out this test; may be repeated
  -l, --list                   list the tests there are
  -d, --dry-run                list the tests that would be run
  -o, --override-timeout SECS  instead of each collection's settings
  -h, --help

Without -t and -c every test runs. Output is KTAP; a test's own output is in
comment lines. NVMe tests touch no device unless it is named:
NVME_TEST_DEV="/dev/ngXnY ..." (all data on it is lost), or NVME_TESTBED=1 in a
guest of the nvme-ng test bed.

exit status: 0 no test failed, 1 some did, 2 wrong usage
EOF
}

die() {
	echo "run_kselftest.sh: $*" >&2
	exit 2
}

need() {
	[ $# -gt 1 ] || die "$1 wants a value (see --help)"
}

for arg; do
	case $arg in
	-h | --help) usage; exit 0 ;;
	esac
done
cd "$(dirname "$0")" || exit 2
[ -r kselftest-list.txt ] || die "no kselftest-list.txt beside me: run 'make install'"
all=$(cat kselftest-list.txt)
tests=
skip=
override=
dry=
while [ $# -gt 0 ]; do
	case $1 in
	-t | --test)
		need "$@"
		echo "$all" | grep -qxF -e "$2" || die "no such test: '$2' (see --list)"
		tests="$tests $2"
		shift
		;;
	-c | --collection)
		need "$@"
		found=$(echo "$all" | awk -F : -v c="$2" '$1 == c')
		[ -n "$found" ] || die "no such collection: '$2' (see --list)"
		tests="$tests $found"
		shift
		;;
	-S | --skip)
		need "$@"
		echo "$all" | grep -qxF -e "$2" || die "no such test: '$2' (see --list)"
		skip="$skip $2"
		shift
		;;
	-o | --override-timeout)
		need "$@"
		override=$2
		shift
		;;
	-l | --list) echo "$all"; exit 0 ;;
	-d | --dry-run) dry=1 ;;
	*) die "unknown option '$1' (see --help)" ;;
	esac
	shift
done

run=
total=0
for test in ${tests:-$all}; do
	case " $skip " in *" $test "*) continue ;; esac
	run="$run $test"
	total=$((total + 1))
done
if [ -n "$dry" ]; then
	for test in $run; do
		echo "$test"
	done
	exit 0
fi

echo "TAP version 13"
echo "1..$total"
export KSFT_TAP_LEVEL=1
exec 4>&1
number=0
passed=0
failed=0
skipped=0
for test in $run; do
	number=$((number + 1))
	collection=${test%%:*}
	program=${test#*:}
	name="selftests: $collection: $program"
	timeout=$(sed -n 's/^timeout=//p' "$collection/settings" 2>/dev/null)
	timeout=${override:-${timeout:-45}}
	echo "# timeout set to $timeout"
	echo "# $name"
	# In the kernel log too: what is said there belongs to this test.
	echo "$name" 2>/dev/null >/dev/kmsg || :
	marks=
	if [ -x "$collection/leftovers" ]; then
		marks=$(mktemp)
		"$collection/leftovers" --mark "$marks" || {
			rm -f "$marks"
			marks=
		}
	fi
	# The pipe would hide the status.
	status=$({
		{
			cd "$collection" && timeout -k 10 "$timeout" "./$program" 2>&1 3>&-
			echo $? >&3
		} | sed -u 's/^/# /' >&4
	} 3>&1)
	# What a test leaves behind is a failure of the test.
	if [ -n "$marks" ]; then
		left=$("$collection/leftovers" --check "$marks") || {
			echo "$left" | sed 's/^/# /'
			status=left
		}
	fi
	case $status in
	0)
		passed=$((passed + 1))
		echo "ok $number $name"
		;;
	4)
		skipped=$((skipped + 1))
		echo "ok $number $name # SKIP"
		;;
	left)
		failed=$((failed + 1))
		echo "not ok $number $name # left something behind"
		;;
	124)
		failed=$((failed + 1))
		echo "not ok $number $name # TIMEOUT $timeout seconds"
		;;
	*)
		failed=$((failed + 1))
		echo "not ok $number $name # exit=$status"
		;;
	esac
done
echo "# Totals: pass:$passed fail:$failed skip:$skipped"
[ $failed = 0 ]
