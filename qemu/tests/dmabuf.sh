#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Regions of dma-bufs, of the exporter beside this file and, where there is one
# more controller with memory, NVMENG-V, of vfio-pci.
set -eu
. ./bed.sh

test_exporter() {
	insmod "../exporter/$(uname -r).ko"
	../nvme/dmabuf --testbed --only=A/1
	../nvme/dmabuf --testbed --only=B/1
}

# address SERIAL: of the PCI device
address() {
	local controller
	for controller in /sys/class/nvme/nvme*; do
		[ "$(tr -d ' ' <"$controller/serial")" = "$1" ] || continue
		basename "$(readlink -f "$controller/device")"
		return
	done
	return 1
}

test_vfio() {
	local device
	device=$(address NVMENG-V) || skip "there is no NVMENG-V"
	modprobe -a vfio_iommu_type1 vfio-pci
	echo "$device" >/sys/bus/pci/drivers/nvme/unbind
	echo vfio-pci >"/sys/bus/pci/devices/$device/driver_override"
	echo "$device" >/sys/bus/pci/drivers_probe
	../nvme/dmabuf --testbed "--vfio=$device" --only=A/1
	../nvme/dmabuf --testbed "--vfio=$device" --only=B/1
}

test_zz_removed() {
	../nvme/dmabuf --testbed --remove --only=B/1
	until_true node NVMENG-B 1
	rmmod dmabuf_exporter
}

run_tests
