// SPDX-License-Identifier: GPL-2.0
/* NVM namespaces with metadata in a buffer of its own. */
#include "region.h"

static struct nt_ring ring;

static bool has_separate_metadata(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_NVM && ns->ms && !ns->extended && !ns->pi;
}

static void round_trip(struct nt_ns *ns, enum nt_via via, __u64 lba,
		       unsigned int blocks, __u32 offset, __u32 meta_offset)
{
	__u32 size = blocks * ns->lba_size, ms = blocks * ns->ms;
	char *data = nt_alloc(size, offset), *meta = nt_alloc(ms, meta_offset);
	char *got = nt_alloc(size, offset);
	char *got_meta = nt_alloc(ms + 64, meta_offset);
	char *poison = nt_alloc(64, 0);

	nt_fill(data, size, lba + blocks);
	nt_fill(meta, ms, ~(lba + blocks));
	nt_status(nt_rw(ns, via, NVME_CMD_WRITE, lba, blocks, data, meta, NULL),
		  NVME_SC_SUCCESS);
	nt_status(nt_rw(ns, via, NVME_CMD_READ, lba, blocks, got, got_meta,
			NULL), NVME_SC_SUCCESS);
	nt_same(got, data, size);
	nt_same(got_meta, meta, ms);
	nt_same(got_meta + ms, poison, 64);
}

static void sizes(struct nt_ns *ns, enum nt_via via)
{
	static const unsigned int counts[] = { 1, 2, 3, 7, 8, 16, 31 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(counts); i++)
		round_trip(ns, via, i * 50, counts[i], 0, 0);
}

static void buffer_offsets(struct nt_ns *ns, enum nt_via via)
{
	static const __u32 offsets[] = { 0, 4, 512, 4092 };
	static const __u32 meta_offsets[] = { 0, 4, 100, 4088, 4092, 1 };
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(offsets); i++)
		for (j = 0; j < ARRAY_SIZE(meta_offsets); j++)
			round_trip(ns, via, 100 * i + 10 * j, 4, offsets[i],
				   meta_offsets[j]);
}

/* Each block has its own metadata. */
static void per_block(struct nt_ns *ns, enum nt_via via)
{
	char *data = nt_alloc(16 * ns->lba_size, 0);
	char *meta = nt_alloc(16 * ns->ms, 0);
	char *got = nt_alloc(ns->lba_size, 0), *got_meta = nt_alloc(ns->ms, 0);
	unsigned int i;

	nt_fill(data, 16 * ns->lba_size, 1);
	nt_fill(meta, 16 * ns->ms, 2);
	nt_status(nt_rw(ns, via, NVME_CMD_WRITE, 600, 16, data, meta, NULL),
		  NVME_SC_SUCCESS);
	for (i = 0; i < 16; i++) {
		nt_status(nt_rw(ns, via, NVME_CMD_READ, 600 + i, 1, got,
				got_meta, NULL), NVME_SC_SUCCESS);
		nt_same(got, data + i * ns->lba_size, ns->lba_size);
		nt_same(got_meta, meta + i * ns->ms, ns->ms);
	}
}

/* New data and metadata of one block leave the others as they were. */
static void neighbours(struct nt_ns *ns, enum nt_via via)
{
	char *data = nt_alloc(8 * ns->lba_size, 0);
	char *meta = nt_alloc(8 * ns->ms, 0);
	char *got = nt_alloc(8 * ns->lba_size, 0);
	char *got_meta = nt_alloc(8 * ns->ms, 0);

	nt_fill(data, 8 * ns->lba_size, 3);
	nt_fill(meta, 8 * ns->ms, 4);
	nt_status(nt_rw(ns, via, NVME_CMD_WRITE, 700, 8, data, meta, NULL),
		  NVME_SC_SUCCESS);
	nt_fill(data + 3 * ns->lba_size, ns->lba_size, 5);
	nt_fill(meta + 3 * ns->ms, ns->ms, 6);
	nt_status(nt_rw(ns, via, NVME_CMD_WRITE, 703, 1,
			data + 3 * ns->lba_size, meta + 3 * ns->ms, NULL),
		  NVME_SC_SUCCESS);
	nt_status(nt_rw(ns, via, NVME_CMD_READ, 700, 8, got, got_meta, NULL),
		  NVME_SC_SUCCESS);
	nt_same(got, data, 8 * ns->lba_size);
	nt_same(got_meta, meta, 8 * ns->ms);
}

static void compare(struct nt_ns *ns, enum nt_via via)
{
	char *data = nt_alloc(4 * ns->lba_size, 0);
	char *meta = nt_alloc(4 * ns->ms, 0);

	nt_need_opcode(ns, NVME_CMD_COMPARE, "Compare");
	nt_fill(data, 4 * ns->lba_size, 7);
	nt_fill(meta, 4 * ns->ms, 8);
	nt_status(nt_rw(ns, via, NVME_CMD_WRITE, 800, 4, data, meta, NULL),
		  NVME_SC_SUCCESS);
	nt_status(nt_rw(ns, via, NVME_CMD_COMPARE, 800, 4, data, meta, NULL),
		  NVME_SC_SUCCESS);
	meta[4 * ns->ms - 1] ^= 1;
	nt_status(nt_rw(ns, via, NVME_CMD_COMPARE, 800, 4, data, meta, NULL),
		  NVME_SC_COMPARE_FAILED);
}

/*
 * Metadata that nobody wants: what is read goes nowhere, what is written are
 * zeros, never what a command before has read.
 */
static void no_buffer(struct nt_ns *ns, enum nt_via via)
{
	static const unsigned int forms[] = { 0, NT_VEC, NT_FIXED };
	char *data = nt_alloc(8 * ns->lba_size, 0);
	char *meta = nt_alloc(8 * ns->ms, 0), *zeros = nt_alloc(8 * ns->ms, 0);
	struct iovec vec = { data, 8 * ns->lba_size };
	struct nvme_uring_cmd cmd = {
		.cdw10 = 900,
		.cdw12 = 7,
	};
	size_t i;

	memset(zeros, 0, 8 * ns->ms);
	for (i = 0; i < ARRAY_SIZE(forms); i++) {
		if (forms[i] == NT_FIXED && via == NT_IOCTL)
			continue;
		nt_fill(data, 8 * ns->lba_size, 9 + i);
		nt_fill(meta, 8 * ns->ms, 10 + i);
		nt_status(nt_rw(ns, via, NVME_CMD_WRITE, 900, 8, data, meta,
				NULL), NVME_SC_SUCCESS);
		cmd.addr = (uintptr_t)(forms[i] == NT_VEC ? (void *)&vec : data);
		cmd.data_len = forms[i] == NT_VEC ? 1 : 8 * ns->lba_size;
		cmd.opcode = NVME_CMD_READ;
		memset(data, NT_POISON, 8 * ns->lba_size);
		if (forms[i] == NT_FIXED)
			nt_eq(io_uring_register_buffers(&ns->dev.ring, &vec, 1),
			      0);
		nt_status(nt_io_form(ns, via, forms[i], &cmd, NULL),
			  NVME_SC_SUCCESS);
		cmd.opcode = NVME_CMD_WRITE;
		nt_status(nt_io_form(ns, via, forms[i], &cmd, NULL),
			  NVME_SC_SUCCESS);
		if (forms[i] == NT_FIXED)
			nt_eq(io_uring_unregister_buffers(&ns->dev.ring), 0);
		nt_status(nt_rw(ns, via, NVME_CMD_READ, 900, 8, data, meta,
				NULL), NVME_SC_SUCCESS);
		nt_same(meta, zeros, 8 * ns->ms);
	}
}

/* The same with the data in a region, by a request and on a ring queue. */
static void no_buffer_region(struct nt_ns *ns, enum nt_via via)
{
	static const unsigned int setups[] = { 0, IORING_SETUP_IOPOLL };
	char *data = nt_alloc(8 * ns->lba_size, 0);
	char *meta = nt_alloc(8 * ns->ms, 0), *zeros = nt_alloc(8 * ns->ms, 0);
	struct nvme_uring_cmd cmd = {
		.nsid = ns->nsid,
		.data_len = 8 * ns->lba_size,
		.cdw3 = 8 * ns->lba_size,
		.cdw10 = 900,
		.cdw12 = 7,
	};
	__u32 region;
	size_t i;

	if (via == NT_IOCTL)
		nt_skip("regions are for io_uring");
	memset(zeros, 0, 8 * ns->ms);
	nt_eq(nt_map(ns->dev.fd, 0, data, 8 * ns->lba_size, &region), 0);
	for (i = 0; i < ARRAY_SIZE(setups); i++) {
		nt_fill(data, 8 * ns->lba_size, 20 + i);
		nt_fill(meta, 8 * ns->ms, 30 + i);
		nt_status(nt_rw(ns, via, NVME_CMD_WRITE, 900, 8, data, meta,
				NULL), NVME_SC_SUCCESS);
		nt_ring_open(&ring, 8, setups[i]);
		cmd.opcode = NVME_CMD_READ;
		nt_status(nt_region_run(&ring, ns->dev.fd, NVME_NG_URING_CMD_IO,
					&cmd, region, 0), NVME_SC_SUCCESS);
		cmd.opcode = NVME_CMD_WRITE;
		nt_status(nt_region_run(&ring, ns->dev.fd, NVME_NG_URING_CMD_IO,
					&cmd, region, 0), NVME_SC_SUCCESS);
		nt_ring_close(&ring);
		nt_status(nt_rw(ns, via, NVME_CMD_READ, 900, 8, data, meta,
				NULL), NVME_SC_SUCCESS);
		nt_same(meta, zeros, 8 * ns->ms);
	}
	nt_eq(nt_unmap(ns->dev.fd, region), 0);
}

static const struct nt_case cases[] = {
	{ "sizes", sizes },
	{ "buffer_offsets", buffer_offsets },
	{ "per_block", per_block },
	{ "neighbours", neighbours },
	{ "compare", compare },
	{ "no_buffer", no_buffer },
	{ "no_buffer_region", no_buffer_region },
};

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test NVM namespaces with separate metadata.",
		.wants = "NVM (separate metadata, no protection information)",
		.fits = has_separate_metadata,
	};

	return nt_run(argc, argv, &prog, cases, ARRAY_SIZE(cases));
}
