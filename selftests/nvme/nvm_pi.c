// SPDX-License-Identifier: GPL-2.0
/* NVM namespaces with extended metadata that is type 1 protection information. */
#include <stdlib.h>

#include "nvme_test.h"

enum {
	PRCHK_REF = 1 << 26,
	PRCHK_APP = 1 << 27,
	PRCHK_GUARD = 1 << 28,
	PRACT = 1 << 29,
	PRCHK = PRCHK_REF | PRCHK_APP | PRCHK_GUARD,
};

#define APPTAG 0x1234

static bool has_type_1(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_NVM && ns->extended && ns->ms == 8 &&
	       ns->pi == 1;
}

/* T10 DIF: polynomial 8bb7h, not reflected, from 0. */
static __u16 crc16(const unsigned char *data, __u32 len)
{
	__u16 crc = 0;
	int bit;

	while (len--) {
		crc ^= *data++ << 8;
		for (bit = 0; bit < 8; bit++)
			crc = crc & 0x8000 ? crc << 1 ^ 0x8bb7 : crc << 1;
	}
	return crc;
}

static void put_be16(unsigned char *p, __u16 v)
{
	p[0] = v >> 8;
	p[1] = v;
}

/* Blocks with data and the protection information that belongs to it. */
static void make_blocks(const struct nt_ns *ns, unsigned char *p, __u64 lba,
			unsigned int blocks, __u16 apptag, __u64 seed)
{
	for (; blocks--; lba++, p += ns->lba_size + 8) {
		unsigned char *pi = p + ns->lba_size;

		nt_fill(p, ns->lba_size, seed + lba);
		put_be16(pi, crc16(p, ns->lba_size));
		put_be16(pi + 2, apptag);
		put_be16(pi + 4, lba >> 16);
		put_be16(pi + 6, lba);
	}
}

/* @per_block: bytes that are transferred for each block */
static int rw_pi(struct nt_ns *ns, enum nt_via via, __u8 opcode, __u64 lba,
		 unsigned int blocks, void *data, __u32 per_block,
		 __u32 prinfo, __u32 reftag, __u16 apptag)
{
	struct nvme_uring_cmd cmd = {
		.opcode = opcode,
		.addr = (uintptr_t)data,
		.data_len = blocks * per_block,
		.cdw10 = lba,
		.cdw11 = lba >> 32,
		.cdw12 = (blocks - 1) | prinfo,
		.cdw14 = reftag,
		.cdw15 = 0xffff0000 | apptag,
	};

	return nt_io(ns, via, &cmd, NULL);
}

/* The caller makes the information, the device checks all of it. */
static void host_makes(struct nt_ns *ns, enum nt_via via)
{
	static const unsigned int counts[] = { 1, 2, 7, 8, 9, 64, 200 };
	__u32 full = ns->lba_size + ns->ms;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		unsigned int n = counts[i];
		char *data = nt_alloc(n * full, 0), *got = nt_alloc(n * full, 0);
		__u64 lba = 1000 * i;

		make_blocks(ns, (void *)data, lba, n, APPTAG, i);
		nt_status(rw_pi(ns, via, NVME_CMD_WRITE, lba, n, data, full,
				PRCHK, lba, APPTAG), NVME_SC_SUCCESS);
		nt_status(rw_pi(ns, via, NVME_CMD_READ, lba, n, got, full,
				PRCHK, lba, APPTAG), NVME_SC_SUCCESS);
		nt_same(got, data, n * full);
	}
}

/* The device makes it of data alone; it must be what we compute. */
static void device_makes(struct nt_ns *ns, enum nt_via via)
{
	__u32 full = ns->lba_size + ns->ms, size = 9 * ns->lba_size;
	char *want = nt_alloc(9 * full, 0), *got = nt_alloc(9 * full, 0);
	char *data = nt_alloc(size, 0), *bare = nt_alloc(size, 0);
	__u64 lba = 20000;
	int i;

	make_blocks(ns, (void *)want, lba, 9, APPTAG, 99);
	for (i = 0; i < 9; i++)
		memcpy(data + i * ns->lba_size, want + i * full, ns->lba_size);
	nt_status(rw_pi(ns, via, NVME_CMD_WRITE, lba, 9, data, ns->lba_size,
			PRACT, lba, APPTAG), NVME_SC_SUCCESS);
	nt_status(rw_pi(ns, via, NVME_CMD_READ, lba, 9, got, full, PRCHK, lba,
			APPTAG), NVME_SC_SUCCESS);
	nt_same(got, want, 9 * full);
	/* and takes it off again */
	nt_status(rw_pi(ns, via, NVME_CMD_READ, lba, 9, bare, ns->lba_size,
			PRACT | PRCHK, lba, APPTAG), NVME_SC_SUCCESS);
	nt_same(bare, data, size);
}

/* Write four blocks with one byte wrong: what does the device say? */
static void wrong_byte(struct nt_ns *ns, enum nt_via via, __u32 at, int want)
{
	__u32 full = ns->lba_size + ns->ms;
	char *data = nt_alloc(4 * full, 0), *old = nt_alloc(4 * full, 0);
	char *got = nt_alloc(4 * full, 0);
	__u64 lba = 30000;

	make_blocks(ns, (void *)old, lba, 4, APPTAG, 5);
	nt_status(rw_pi(ns, via, NVME_CMD_WRITE, lba, 4, old, full, PRCHK, lba,
			APPTAG), NVME_SC_SUCCESS);
	make_blocks(ns, (void *)data, lba, 4, APPTAG, 6);
	data[2 * full + at] ^= 1;
	nt_status(rw_pi(ns, via, NVME_CMD_WRITE, lba, 4, data, full, PRCHK,
			lba, APPTAG), want);
	/* nothing of it was written */
	nt_status(rw_pi(ns, via, NVME_CMD_READ, lba, 4, got, full, PRCHK, lba,
			APPTAG), NVME_SC_SUCCESS);
	nt_same(got, old, 4 * full);
}

static void wrong_data(struct nt_ns *ns, enum nt_via via)
{
	wrong_byte(ns, via, 7, NVME_SC_GUARD_CHECK);
}

static void wrong_guard(struct nt_ns *ns, enum nt_via via)
{
	wrong_byte(ns, via, ns->lba_size, NVME_SC_GUARD_CHECK);
}

static void wrong_apptag(struct nt_ns *ns, enum nt_via via)
{
	wrong_byte(ns, via, ns->lba_size + 3, NVME_SC_APPTAG_CHECK);
}

static void wrong_reftag(struct nt_ns *ns, enum nt_via via)
{
	wrong_byte(ns, via, ns->lba_size + 7, NVME_SC_REFTAG_CHECK);
}

/* Type 1 wants the low bits of the LBA as the first reference tag. */
static void wrong_initial_reftag(struct nt_ns *ns, enum nt_via via)
{
	__u32 full = ns->lba_size + ns->ms;
	char *data = nt_alloc(full, 0);

	make_blocks(ns, (void *)data, 31000, 1, APPTAG, 7);
	nt_status(rw_pi(ns, via, NVME_CMD_WRITE, 31000, 1, data, full, PRCHK,
			31001, APPTAG), NVME_SC_INVALID_PI);
}

/* What was written unchecked is found by a read that checks. */
static void checked_on_read(struct nt_ns *ns, enum nt_via via)
{
	__u32 full = ns->lba_size + ns->ms;
	char *data = nt_alloc(4 * full, 0), *got = nt_alloc(4 * full, 0);
	__u64 lba = 32000;

	make_blocks(ns, (void *)data, lba, 4, APPTAG, 8);
	data[3 * full + 100] ^= 0x80;
	nt_status(rw_pi(ns, via, NVME_CMD_WRITE, lba, 4, data, full, 0, lba,
			APPTAG), NVME_SC_SUCCESS);
	nt_status(rw_pi(ns, via, NVME_CMD_READ, lba, 4, got, full, PRCHK_GUARD,
			lba, APPTAG), NVME_SC_GUARD_CHECK);
	nt_status(rw_pi(ns, via, NVME_CMD_READ, lba, 4, got, full, 0, lba,
			APPTAG), NVME_SC_SUCCESS);
	nt_same(got, data, 4 * full);
	nt_status(rw_pi(ns, via, NVME_CMD_READ, lba, 3, got, full, PRCHK, lba,
			APPTAG), NVME_SC_SUCCESS);
	nt_status(rw_pi(ns, via, NVME_CMD_READ, lba, 3, got, full, PRCHK_APP,
			lba, APPTAG + 1), NVME_SC_APPTAG_CHECK);
}

static const struct nt_case cases[] = {
	{ "host_makes", host_makes },
	{ "device_makes", device_makes },
	{ "wrong_data", wrong_data },
	{ "wrong_guard", wrong_guard },
	{ "wrong_apptag", wrong_apptag },
	{ "wrong_reftag", wrong_reftag },
	{ "wrong_initial_reftag", wrong_initial_reftag },
	{ "checked_on_read", checked_on_read },
};

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test NVM namespaces with protection information.",
		.wants = "NVM (8 bytes extended metadata, PI type 1)",
		.fits = has_type_1,
	};

	return nt_run(argc, argv, &prog, cases, ARRAY_SIZE(cases));
}
