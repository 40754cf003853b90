#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What 'make run' shows in the guest: needs a share with the project in it.
set -eu
cd "$(dirname "$0")"
. ./bed.sh
build=../../build/selftests
"$build/nvme/nvme_demo" --testbed
device=$(node NVMENG-A 1)
cp "$build/ng-read" /tmp
printf '\nPre-mapped reads, %s, by user tester:\n  ' "$device"
as_tester "$device" /tmp/ng-read "$device"
