// SPDX-License-Identifier: GPL-2.0
/* Writes and reads from a registered buffer; the ioctl does the opposite. */
#include "nvme_test.h"

#define AREA (128 << 10)

static bool is_plain_nvm(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_NVM && !ns->ms;
}

static char *register_area(struct nt_ns *ns)
{
	struct iovec area = { .iov_base = nt_alloc(AREA, 0), .iov_len = AREA };
	struct nvme_uring_cmd flush = { .opcode = NVME_CMD_FLUSH };

	/* makes the ring */
	nt_status(nt_io(ns, NT_URING, &flush, NULL), NVME_SC_SUCCESS);
	nt_eq(io_uring_register_buffers(&ns->dev.ring, &area, 1), 0);
	return area.iov_base;
}

static int fixed(struct nt_ns *ns, __u8 opcode, __u64 lba, unsigned int blocks,
		 void *data)
{
	struct nvme_uring_cmd cmd = {
		.opcode = opcode,
		.addr = (uintptr_t)data,
		.data_len = blocks * ns->lba_size,
		.cdw10 = lba,
		.cdw12 = blocks - 1,
	};

	return nt_io_form(ns, NT_URING, NT_FIXED, &cmd, NULL);
}

/* Any offset that fits the device's alignment, within and across pages. */
static void offsets(struct nt_ns *ns, char *area)
{
	static const __u32 at[] = {
		0, 4, 512, 2048, 4092, 4096, 8192 + 512, 65536,
		AREA - 16384,
	};
	static const __u32 sizes[] = { 4096, 8192, 512 * 9, 16384 };
	char *want = nt_alloc(16384, 0), *got = nt_alloc(16384, 0);
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(at); i++) {
		for (j = 0; j < ARRAY_SIZE(sizes); j++) {
			unsigned int blocks = sizes[j] / ns->lba_size;

			memset(area, NT_POISON, AREA);
			nt_fill(want, sizes[j], i * 10 + j);
			memcpy(area + at[i], want, sizes[j]);
			nt_status(fixed(ns, NVME_CMD_WRITE, 7000, blocks,
					area + at[i]), NVME_SC_SUCCESS);
			nt_status(nt_rw(ns, NT_IOCTL, NVME_CMD_READ, 7000,
					blocks, got, NULL, NULL),
				  NVME_SC_SUCCESS);
			nt_same(got, want, sizes[j]);

			memset(area, NT_POISON, AREA);
			nt_status(fixed(ns, NVME_CMD_READ, 7000, blocks,
					area + at[i]), NVME_SC_SUCCESS);
			nt_same(area + at[i], want, sizes[j]);
			memset(area + at[i], NT_POISON, sizes[j]);
			memset(got, NT_POISON, sizes[j]);
			if (at[i] >= 16384)
				nt_same(area + at[i] - 16384, got, sizes[j]);
		}
	}
}

static void run_offsets(void *arg)
{
	struct nt_ns *ns = arg;

	offsets(ns, register_area(ns));
	nt_eq(io_uring_unregister_buffers(&ns->dev.ring), 0);
}

/* What is not inside the registered buffer is refused. */
static void run_outside(void *arg)
{
	struct nt_ns *ns = arg;
	char *area = register_area(ns), *other = nt_alloc(4096, 0);
	unsigned int blocks = 4096 / ns->lba_size;

	nt_status(fixed(ns, NVME_CMD_READ, 0, blocks, other), -EFAULT);
	nt_status(fixed(ns, NVME_CMD_READ, 0, blocks, area + AREA - 4),
		  -EFAULT);
	nt_status(fixed(ns, NVME_CMD_READ, 0, blocks, area - 4), -EFAULT);
	nt_eq(io_uring_unregister_buffers(&ns->dev.ring), 0);
	nt_status(fixed(ns, NVME_CMD_READ, 0, blocks, area), -EFAULT);
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test transfers from and to a registered buffer.",
		.wants = "NVM (without metadata)",
		.fits = is_plain_nvm,
	};
	struct nt_ns *ns;
	size_t i, n;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	nt_plan(2 * n);
	for (i = 0; i < n; i++) {
		nt_test(run_offsets, &ns[i], "%s offsets", ns[i].name);
		nt_test(run_outside, &ns[i], "%s outside", ns[i].name);
	}
	return nt_end();
}
