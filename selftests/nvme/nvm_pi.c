// SPDX-License-Identifier: GPL-2.0
/*
 * NVM namespaces whose metadata is protection information, at the end of each
 * block's data or in a buffer of its own, formatted to each of the three types.
 */
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

#define ADMIN_FORMAT 0x80

static bool may_have_pi(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_NVM && ns->ms == 8;
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

/* The first reference tag: type 1 has no choice. */
static __u32 first_tag(const struct nt_ns *ns, __u64 lba)
{
	return ns->pi == 1 ? lba : lba + 0x12340000;
}

/* Blocks with data and the protection information that belongs to it. */
static void make_blocks(const struct nt_ns *ns, unsigned char *p, __u64 lba,
			unsigned int blocks, __u16 apptag, __u64 seed)
{
	__u32 tag = first_tag(ns, lba);

	for (; blocks--; lba++, p += ns->lba_size + 8) {
		unsigned char *pi = p + ns->lba_size;

		nt_fill(p, ns->lba_size, seed + lba);
		put_be16(pi, crc16(p, ns->lba_size));
		put_be16(pi + 2, apptag);
		put_be16(pi + 4, tag >> 16);
		put_be16(pi + 6, tag);
		/* type 3 does not count */
		tag += ns->pi != 3;
	}
}

/*
 * @per_block: bytes that are transferred for each block; if that is more than
 * its data, @data has the information of each block behind its data
 * @tagged: the block whose reference tag is given for the first one
 */
static int rw_pi(struct nt_ns *ns, enum nt_via via, __u8 opcode, __u64 lba,
		 unsigned int blocks, void *data, __u32 per_block,
		 __u32 prinfo, __u64 tagged, __u16 apptag)
{
	bool split = !ns->extended && per_block > ns->lba_size;
	struct nvme_uring_cmd cmd = {
		.opcode = opcode,
		.addr = (uintptr_t)data,
		.data_len = blocks * per_block,
		.cdw10 = lba,
		.cdw11 = lba >> 32,
		.cdw12 = (blocks - 1) | prinfo,
		.cdw14 = first_tag(ns, tagged),
		.cdw15 = 0xffff0000 | apptag,
	};
	char *p = data, *d, *m;
	unsigned int i;
	int ret;

	/* the reference tag of type 3 cannot be checked */
	if (ns->pi == 3)
		cmd.cdw12 &= ~PRCHK_REF;
	if (!split)
		return nt_io(ns, via, &cmd, NULL);

	d = nt_alloc(blocks * ns->lba_size, 0);
	m = nt_alloc(blocks * ns->ms, 0);
	cmd.addr = (uintptr_t)d;
	cmd.data_len = blocks * ns->lba_size;
	cmd.metadata = (uintptr_t)m;
	cmd.metadata_len = blocks * ns->ms;
	for (i = 0; i < blocks; i++) {
		memcpy(d + i * ns->lba_size, p + i * per_block, ns->lba_size);
		memcpy(m + i * ns->ms, p + i * per_block + ns->lba_size,
		       ns->ms);
	}
	ret = nt_io(ns, via, &cmd, NULL);
	for (i = 0; i < blocks; i++) {
		memcpy(p + i * per_block, d + i * ns->lba_size, ns->lba_size);
		memcpy(p + i * per_block + ns->lba_size, m + i * ns->ms,
		       ns->ms);
	}
	return ret;
}

/* The caller makes the information, the device checks all of it. */
static void host_makes(struct nt_ns *ns, enum nt_via via)
{
	static const unsigned int counts[] = { 1, 2, 7, 8, 9, 64, 100 };
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
	__u64 lba = 8000;
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
	__u64 lba = 9000;

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
	if (ns->pi == 3)
		nt_skip("type 3 has no reference tag that is checked");
	wrong_byte(ns, via, ns->lba_size + 7, NVME_SC_REFTAG_CHECK);
}

/* Type 1 wants the low bits of the LBA as the first reference tag at once. */
static void wrong_initial_reftag(struct nt_ns *ns, enum nt_via via)
{
	__u32 full = ns->lba_size + ns->ms;
	char *data = nt_alloc(full, 0);

	if (ns->pi == 3)
		nt_skip("type 3 has no reference tag that is checked");
	make_blocks(ns, (void *)data, 9500, 1, APPTAG, 7);
	nt_status(rw_pi(ns, via, NVME_CMD_WRITE, 9500, 1, data, full, PRCHK,
			9501, APPTAG), ns->pi == 1 ? NVME_SC_INVALID_PI :
		  NVME_SC_REFTAG_CHECK);
}

/* What was written unchecked is found by a read that checks. */
static void checked_on_read(struct nt_ns *ns, enum nt_via via)
{
	__u32 full = ns->lba_size + ns->ms;
	char *data = nt_alloc(4 * full, 0), *got = nt_alloc(4 * full, 0);
	__u64 lba = 10000;

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

struct one_run {
	const struct nt_case *c;
	struct nt_ns *ns;
	enum nt_via via;
	unsigned int type;
};

/* what the namespaces had at the start */
static struct nt_ns *all;
static size_t nr_all;
static unsigned int *before;

/* The format that it has, but with another type. */
static void reformat(void *arg)
{
	struct one_run *r = arg;
	struct nt_ns *ns = r->ns;
	struct nvme_uring_cmd cmd = {
		.opcode = ADMIN_FORMAT,
		.nsid = ns->nsid,
	};
	unsigned char id[NT_PAGE];

	nt_status(nt_identify(ns->ctrl.fd, NVME_ID_CNS_NS, 0, ns->nsid, id),
		  NVME_SC_SUCCESS);
	if (r->type && !(id[28] & 1 << (r->type - 1)))
		nt_skip("the device does not have type %u", r->type);
	/* LBA format, MSET, PI; flbas and nlbaf have more bits in newer devices */
	cmd.cdw10 = (id[26] & 0x1f) | r->type << 5;
	if (id[25] > 15)
		cmd.cdw10 |= (id[26] & 0x60) << 7;
	nt_status(nt_admin(ns, NT_URING, &cmd, NULL), NVME_SC_SUCCESS);
	nt_status(nt_identify(ns->ctrl.fd, NVME_ID_CNS_NS, 0, ns->nsid, id),
		  NVME_SC_SUCCESS);
	nt_eq(id[29] & 7, r->type);
	ns->pi = r->type;
}

static void run_one(void *arg)
{
	struct one_run *r = arg;

	if (r->ns->pi != r->type)
		reformat(r);
	r->c->run(r->ns, r->via);
}

static void run_type(struct one_run *r)
{
	size_t i;

	nt_test(reformat, r, "%s type %u format", r->ns->name, r->type);
	for (r->via = 0; r->via < NT_VIAS; r->via++) {
		for (i = 0; i < ARRAY_SIZE(cases); i++) {
			r->c = &cases[i];
			nt_test(run_one, r, "%s type %u %s %s", r->ns->name,
				r->type, nt_via_name(r->via), r->c->name);
		}
	}
}

/* Also where only some of the cases were to run. */
static void format_as_before(void)
{
	struct one_run r;
	size_t i;

	for (i = 0; i < nr_all; i++) {
		r.ns = &all[i];
		r.type = before[i];
		if (r.ns->pi != r.type)
			reformat(&r);
	}
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test NVM namespaces with protection information.",
		.wants = "NVM (8 bytes of metadata)",
		.fits = may_have_pi,
	};
	struct one_run r;
	size_t i, n;

	nt_init(argc, argv, &prog);
	r.ns = nt_namespaces(&n);
	all = r.ns;
	nr_all = n;
	before = calloc(n + 1, sizeof(*before));
	if (!before)
		nt_die("no memory");
	for (i = 0; i < n; i++)
		before[i] = all[i].pi;
	atexit(format_as_before);
	nt_plan(n * (3 * (1 + NT_VIAS * ARRAY_SIZE(cases)) + 1));
	for (i = 0; i < n; i++, r.ns++) {
		for (r.type = 1; r.type <= 3; r.type++)
			run_type(&r);
		r.type = before[i];
		nt_test(reformat, &r, "%s format as before", r.ns->name);
	}
	return nt_end();
}
