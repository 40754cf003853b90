// SPDX-License-Identifier: GPL-2.0
/*
 * Segments in a registered buffer: anybody can make Linux 6.1 warn with this,
 * and 6.12 refuses it.
 */
#include <sys/uio.h>

#include "nvme_test.h"

static bool is_plain_nvm(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_NVM && !ns->ms;
}

static void run_fixed_vec(void *arg)
{
	unsigned char *area = nt_alloc(4 * NT_PAGE, 0), *want, *got;
	struct iovec whole = { .iov_base = area, .iov_len = 4 * NT_PAGE };
	struct iovec iov[2] = {
		{ .iov_base = area + 2 * NT_PAGE, .iov_len = NT_PAGE },
		{ .iov_base = area, .iov_len = NT_PAGE },
	};
	struct nt_ns *ns = arg;
	struct nvme_uring_cmd cmd = { .opcode = NVME_CMD_FLUSH };
	unsigned int blocks = 2 * NT_PAGE / ns->lba_size;

	/* makes the ring */
	nt_status(nt_io(ns, NT_URING, &cmd, NULL), NVME_SC_SUCCESS);
	nt_eq(io_uring_register_buffers(&ns->dev.ring, &whole, 1), 0);

	want = nt_alloc(2 * NT_PAGE, 0);
	got = nt_alloc(2 * NT_PAGE, 0);
	nt_fill(want, 2 * NT_PAGE, 1);
	nt_status(nt_rw(ns, NT_IOCTL, NVME_CMD_WRITE, 0, blocks, want, NULL,
			NULL), NVME_SC_SUCCESS);
	cmd.opcode = NVME_CMD_READ;
	cmd.addr = (uintptr_t)iov;
	cmd.data_len = 2;
	cmd.cdw12 = blocks - 1;
	nt_status(nt_io_form(ns, NT_URING, NT_FIXED | NT_VEC, &cmd, NULL),
		  NVME_SC_SUCCESS);
	nt_same(area + 2 * NT_PAGE, want, NT_PAGE);
	nt_same(area, want + NT_PAGE, NT_PAGE);
	memset(got, NT_POISON, NT_PAGE);
	nt_same(area + NT_PAGE, got, NT_PAGE);
	nt_eq(io_uring_unregister_buffers(&ns->dev.ring), 0);
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test segments in a registered buffer.",
		.wants = "NVM (without metadata)",
		.fits = is_plain_nvm,
	};
	struct nt_ns *ns;
	size_t i, n;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	nt_plan(n);
	for (i = 0; i < n; i++)
		nt_test(run_fixed_vec, &ns[i], "%s", ns[i].name);
	return nt_end();
}
