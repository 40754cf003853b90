# SPDX-License-Identifier: GPL-2.0
BASES := $(shell sed '/^\#/d; s/[^0-9.].*//' qemu/bases)

help:     ## what there is to make (the default)
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16

run: all  ## set up everything, boot with our modules, show them working
	qemu/vm run --iommu strict --share . -- /mnt/share/qemu/tests/demo.sh
	bench/run --brief --kernel 6.12 --iommu strict

check:    ## all tests on all kernels; CHECK=WORDS for some configurations
	@qemu/check --dry-run $(CHECK) >/dev/null
	@$(MAKE) --no-print-directory all
	qemu/check $(CHECK)

lint: root ## mistakes that can be found without a guest, and unit tests
	qemu/lint

docs: root ## the documentation as HTML in build/docs/html; compile its examples
	qemu/docs
.PHONY: lint docs

mutations: all ## does a test notice each of many single faults: ONLY=WORDS for some
	qemu/mutate $(ONLY)
.PHONY: mutations

bench: all ## instructions for each I/O, table and plot; QUICK=1 in five minutes
	bench/run $(if $(QUICK),--quick)
.PHONY: bench

root:     ## toolbox root
	qemu/setup --root

setup: root ## toolbox root and kernels
	qemu/setup

qemu: root ## QEMU with Key Value namespaces and more
	qemu/build-qemu

liburing: setup ## liburing's own test of passthrough
	qemu/build-liburing

modules:  ## our modules: KERNEL= of qemu/bases; KDIR= KSRC= for any; else all bases
	@set -e; $(if $(KDIR)$(KSRC),drivers-nvme-host/build $(if $(KDIR),--kdir $(KDIR)) $(if $(KSRC),--ksrc $(KSRC)),qemu/setup; for base in $(or $(KERNEL),$(BASES)); do drivers-nvme-host/build --kernel $$base; done)

selftests: setup ## the selftests, in build/selftests
	qemu/in-root $(MAKE) -s -j2 -C selftests install OUTPUT=$(CURDIR)/build/selftests.o INSTALL_PATH=$(CURDIR)/build/selftests
	qemu/docs --extract build/selftests
	qemu/build-exporter $(BASES)

tools: setup ## libnvmeng and ngctl, in build/tools/root
	qemu/in-root $(MAKE) -s -j2 -C tools install OUTPUT=$(CURDIR)/build/tools DESTDIR=$(CURDIR)/build/tools/root VERSION=$$(packaging/version)
	cp build/tools/kv-store build/tools/library build/tools/root

deb: setup ## Debian package of the modules for dkms
	packaging/deb

all:      ## everything but the tests
	@$(MAKE) --no-print-directory -j2 qemu setup
	@$(MAKE) --no-print-directory liburing modules selftests tools

series:   ## the patch series in patches/: BASE= of qemu/bases; else all
	@set -e; for base in $(or $(BASE),$(BASES)); do patches/generate $$base; done

check-series: setup selftests ## apply, build, boot, test a series: BASE=, default 7.3; DEBUG=1: KASAN, lockdep; CONFIGS=1: compile for others
	patches/check $(if $(CONFIGS),--configs,$(if $(DEBUG),--debug,--boot)) $(or $(BASE),7.3)

clean:    ## remove everything made or downloaded
	rm -rf --one-file-system build

.PHONY: help run check root setup qemu liburing modules selftests tools bench deb all series check-series clean
