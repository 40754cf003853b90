// SPDX-License-Identifier: GPL-2.0
/* Zoned Namespace Command Set. */
#include <stdlib.h>

#include "nvme_test.h"

enum {
	ZSA_CLOSE = 0x01,
	ZSA_FINISH = 0x02,
	ZSA_OPEN = 0x03,
	ZSA_RESET = 0x04,
};

enum {
	ZS_EMPTY = 0x1,
	ZS_IMPLICITLY_OPEN = 0x2,
	ZS_EXPLICITLY_OPEN = 0x3,
	ZS_CLOSED = 0x4,
	ZS_FULL = 0xe,
};

struct zone {
	__u8 state;
	__u64 capacity;
	__u64 start;
	__u64 wp;
};

static bool is_zoned(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_ZNS && !ns->ms;
}

/* Zone size in blocks */
static __u64 zone_size(struct nt_ns *ns)
{
	unsigned char id[4096], cs[4096];

	nt_status(nt_identify(ns->dev.fd, NVME_ID_CNS_NS, 0, ns->nsid, id),
		  NVME_SC_SUCCESS);
	nt_status(nt_identify(ns->dev.fd, NVME_ID_CNS_CS_NS, NVME_CSI_ZNS,
			      ns->nsid, cs), NVME_SC_SUCCESS);
	return nt_le64(cs + 2816 + (id[26] & 0xf) * 16);
}

static int manage(struct nt_ns *ns, enum nt_via via, __u64 start, __u8 action)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_CMD_ZONE_MGMT_SEND,
		.cdw10 = start,
		.cdw11 = start >> 32,
		.cdw13 = action,
	};

	return nt_io(ns, via, &cmd, NULL);
}

static int report(struct nt_ns *ns, enum nt_via via, __u64 from, void *data,
		  __u32 len)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_CMD_ZONE_MGMT_RECV,
		.addr = (uintptr_t)data,
		.data_len = len,
		.cdw10 = from,
		.cdw11 = from >> 32,
		.cdw12 = len / 4 - 1,
	};

	return nt_io(ns, via, &cmd, NULL);
}

static struct zone parse_zone(const unsigned char *p)
{
	return (struct zone) {
		.state = p[1] >> 4,
		.capacity = nt_le64(p + 8),
		.start = nt_le64(p + 16),
		.wp = nt_le64(p + 24),
	};
}

static void expect_zone(struct nt_ns *ns, enum nt_via via, __u64 start,
			__u8 state, __u64 written)
{
	unsigned char *data = nt_alloc(4096, 0);
	struct zone z;

	nt_status(report(ns, via, start, data, 128), NVME_SC_SUCCESS);
	z = parse_zone(data + 64);
	nt_eq(z.start, start);
	nt_eq(z.state, state);
	/* a full zone has no valid write pointer */
	if (state != ZS_FULL)
		nt_eq(z.wp, start + written);
}

static __u64 reset_zone(struct nt_ns *ns, enum nt_via via, unsigned int i)
{
	__u64 start = i * zone_size(ns);

	nt_status(manage(ns, via, start, ZSA_RESET), NVME_SC_SUCCESS);
	return start;
}

/* All zones in order, in one report and from any zone on. */
static void report_zones(struct nt_ns *ns, enum nt_via via)
{
	__u64 size = zone_size(ns), count = ns->nsze / size, i, from;
	unsigned char *data = nt_alloc(65536, 0);
	struct zone z;

	for (from = 0; from < count; from += 5) {
		memset(data, NT_POISON, 65536);
		nt_status(report(ns, via, from * size, data, 65536),
			  NVME_SC_SUCCESS);
		nt_eq(nt_le64(data), count - from);
		for (i = 0; i < count - from && i < 1023; i++) {
			z = parse_zone(data + 64 + i * 64);
			nt_eq(data[64 + i * 64], 2);
			nt_eq(z.start, (from + i) * size);
			if (!z.capacity || z.capacity > size)
				nt_fail("zone %llu: capacity %llu, size %llu",
					from + i, z.capacity, size);
		}
	}
}

/* Room for two zones: two are described, all are counted. */
static void report_truncated(struct nt_ns *ns, enum nt_via via)
{
	__u64 size = zone_size(ns);
	unsigned char *data = nt_alloc(4096, 0), *poison = nt_alloc(4096, 0);

	nt_status(report(ns, via, 0, data, 64 + 2 * 64), NVME_SC_SUCCESS);
	nt_eq(nt_le64(data), ns->nsze / size);
	nt_eq(parse_zone(data + 64).start, 0);
	nt_eq(parse_zone(data + 128).start, size);
	nt_same(data + 192, poison, 4096 - 192);
}

static void write_at_wp(struct nt_ns *ns, enum nt_via via)
{
	static const unsigned int counts[] = { 1, 8, 3, 32, 100 };
	__u64 start = reset_zone(ns, via, 1), at = 0;
	char *all = nt_alloc(144 * ns->lba_size, 0);
	char *got = nt_alloc(144 * ns->lba_size, 0);
	size_t i;

	expect_zone(ns, via, start, ZS_EMPTY, 0);
	nt_fill(all, 144 * ns->lba_size, 1);
	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		nt_status(nt_rw(ns, via, NVME_CMD_WRITE, start + at, counts[i],
				all + at * ns->lba_size, NULL, NULL),
			  NVME_SC_SUCCESS);
		at += counts[i];
		expect_zone(ns, via, start, ZS_IMPLICITLY_OPEN, at);
	}
	nt_status(nt_rw(ns, via, NVME_CMD_READ, start, 144, got, NULL, NULL),
		  NVME_SC_SUCCESS);
	nt_same(got, all, 144 * ns->lba_size);
	reset_zone(ns, via, 1);
}

/* The device says where it put the data, one after the other. */
static void append(struct nt_ns *ns, enum nt_via via)
{
	static const unsigned int counts[] = { 1, 8, 3, 32, 100 };
	__u64 start = reset_zone(ns, via, 2), at = 0, lba;
	char *all = nt_alloc(144 * ns->lba_size, 0);
	char *got = nt_alloc(144 * ns->lba_size, 0);
	size_t i;

	nt_fill(all, 144 * ns->lba_size, 2);
	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		lba = -1;
		nt_status(nt_rw(ns, via, NVME_CMD_ZONE_APPEND, start, counts[i],
				all + at * ns->lba_size, NULL, &lba),
			  NVME_SC_SUCCESS);
		nt_eq(lba, start + at);
		at += counts[i];
		expect_zone(ns, via, start, ZS_IMPLICITLY_OPEN, at);
	}
	nt_status(nt_rw(ns, via, NVME_CMD_READ, start, 144, got, NULL, NULL),
		  NVME_SC_SUCCESS);
	nt_same(got, all, 144 * ns->lba_size);
	reset_zone(ns, via, 2);
}

static void append_not_at_start(struct nt_ns *ns, enum nt_via via)
{
	__u64 start = reset_zone(ns, via, 2);

	nt_status(nt_rw(ns, via, NVME_CMD_ZONE_APPEND, start + 1, 1,
			nt_alloc(ns->lba_size, 0), NULL, NULL),
		  NVME_SC_INVALID_FIELD);
	expect_zone(ns, via, start, ZS_EMPTY, 0);
}

/* Before and behind the write pointer nothing can be written. */
static void write_elsewhere(struct nt_ns *ns, enum nt_via via)
{
	__u64 start = reset_zone(ns, via, 3);
	char *data = nt_alloc(8 * ns->lba_size, 0);

	nt_status(nt_rw(ns, via, NVME_CMD_WRITE, start + 1, 1, data, NULL,
			NULL), NVME_SC_ZONE_INVALID_WRITE);
	expect_zone(ns, via, start, ZS_EMPTY, 0);
	nt_status(nt_rw(ns, via, NVME_CMD_WRITE, start, 8, data, NULL, NULL),
		  NVME_SC_SUCCESS);
	nt_status(nt_rw(ns, via, NVME_CMD_WRITE, start, 8, data, NULL, NULL),
		  NVME_SC_ZONE_INVALID_WRITE);
	nt_status(nt_rw(ns, via, NVME_CMD_WRITE, start + 16, 8, data, NULL,
			NULL), NVME_SC_ZONE_INVALID_WRITE);
	expect_zone(ns, via, start, ZS_IMPLICITLY_OPEN, 8);
	reset_zone(ns, via, 3);
}

static void states(struct nt_ns *ns, enum nt_via via)
{
	__u64 start = reset_zone(ns, via, 4);
	char *data = nt_alloc(ns->lba_size, 0);

	expect_zone(ns, via, start, ZS_EMPTY, 0);
	nt_status(manage(ns, via, start, ZSA_CLOSE),
		  NVME_SC_ZONE_INVALID_TRANSITION);
	nt_status(manage(ns, via, start, ZSA_OPEN), NVME_SC_SUCCESS);
	expect_zone(ns, via, start, ZS_EXPLICITLY_OPEN, 0);
	nt_status(nt_rw(ns, via, NVME_CMD_WRITE, start, 1, data, NULL, NULL),
		  NVME_SC_SUCCESS);
	expect_zone(ns, via, start, ZS_EXPLICITLY_OPEN, 1);
	nt_status(manage(ns, via, start, ZSA_CLOSE), NVME_SC_SUCCESS);
	expect_zone(ns, via, start, ZS_CLOSED, 1);
	nt_status(nt_rw(ns, via, NVME_CMD_WRITE, start + 1, 1, data, NULL,
			NULL), NVME_SC_SUCCESS);
	expect_zone(ns, via, start, ZS_IMPLICITLY_OPEN, 2);
	nt_status(manage(ns, via, start, ZSA_FINISH), NVME_SC_SUCCESS);
	expect_zone(ns, via, start, ZS_FULL, 0);
	nt_status(nt_rw(ns, via, NVME_CMD_WRITE, start + 2, 1, data, NULL,
			NULL), NVME_SC_ZONE_FULL);
	nt_status(nt_rw(ns, via, NVME_CMD_ZONE_APPEND, start, 1, data, NULL,
			NULL), NVME_SC_ZONE_FULL);
	nt_status(manage(ns, via, start, ZSA_RESET), NVME_SC_SUCCESS);
	expect_zone(ns, via, start, ZS_EMPTY, 0);
}

/* Up to the zone's capacity, which may be less than its size. */
static void capacity(struct nt_ns *ns, enum nt_via via)
{
	__u64 start = reset_zone(ns, via, 5), at, cap;
	unsigned char *head = nt_alloc(4096, 0);
	unsigned int n, step = (64 << 10) / ns->lba_size;
	char *data = nt_alloc(64 << 10, 0), *got = nt_alloc(64 << 10, 0);

	nt_status(report(ns, via, start, head, 128), NVME_SC_SUCCESS);
	cap = parse_zone(head + 64).capacity;
	if (cap * ns->lba_size > 64 << 20)
		nt_skip("zones of %llu blocks take too long to fill", cap);
	for (at = 0; at < cap - 1; at += n) {
		n = cap - 1 - at < step ? cap - 1 - at : step;
		nt_fill(data, n * ns->lba_size, at);
		nt_status(nt_rw(ns, via, NVME_CMD_WRITE, start + at, n, data,
				NULL, NULL), NVME_SC_SUCCESS);
	}
	nt_status(nt_rw(ns, via, NVME_CMD_WRITE, start + cap - 1, 2, data, NULL,
			NULL), NVME_SC_ZONE_BOUNDARY);
	nt_status(nt_rw(ns, via, NVME_CMD_ZONE_APPEND, start, 2, data, NULL,
			NULL), NVME_SC_ZONE_BOUNDARY);
	expect_zone(ns, via, start, ZS_IMPLICITLY_OPEN, cap - 1);
	nt_status(nt_rw(ns, via, NVME_CMD_WRITE, start + cap - 1, 1, data, NULL,
			NULL), NVME_SC_SUCCESS);
	expect_zone(ns, via, start, ZS_FULL, 0);
	for (at = 0; at < cap - 1; at += n) {
		n = cap - 1 - at < step ? cap - 1 - at : step;
		nt_fill(data, n * ns->lba_size, at);
		nt_status(nt_rw(ns, via, NVME_CMD_READ, start + at, n, got,
				NULL, NULL), NVME_SC_SUCCESS);
		nt_same(got, data, n * ns->lba_size);
	}
	reset_zone(ns, via, 5);
}

static const struct nt_case cases[] = {
	{ "report_zones", report_zones },
	{ "report_truncated", report_truncated },
	{ "write_at_wp", write_at_wp },
	{ "append", append },
	{ "append_not_at_start", append_not_at_start },
	{ "write_elsewhere", write_elsewhere },
	{ "states", states },
	{ "capacity", capacity },
};

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test the commands of zoned namespaces.",
		.wants = "zoned",
		.fits = is_zoned,
	};

	return nt_run(argc, argv, &prog, cases, ARRAY_SIZE(cases));
}
