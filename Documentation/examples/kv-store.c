// SPDX-License-Identifier: GPL-2.0
/*
 * Store a value under a key and read it again, as any user who may write to the
 * node of a Key Value namespace:
 *
 *	cc kv-store.c $(pkg-config --cflags --libs libnvmeng) -o kv-store
 *	./kv-store /dev/ng0n5 colour blue
 */
#include <err.h>
#include <fcntl.h>
#include <nvmeng.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	char back[4096] __attribute__((aligned(4096))) = "";
	struct nvmeng_data in = { 0 }, out = { 0 };
	struct nvmeng *dev;
	struct io_uring ring;
	__u64 len;
	int ret;

	if (argc != 4)
		errx(2, "usage: kv-store /dev/ngXnY KEY VALUE");
	ret = nvmeng_open(argv[1], O_RDWR, &dev);
	if (ret)
		errx(1, "%s: %s", argv[1], nvmeng_explain(NVMENG_OPEN, ret));
	if (nvmeng_limits(dev)->csi != NVMENG_CSI_KV)
		errx(1, "%s is not a Key Value namespace", argv[1]);
	ret = nvmeng_ring_init(8, &ring, 0);
	if (ret)
		errx(1, "io_uring: %s", nvmeng_explain(NVMENG_RING, ret));
	in.addr = (uintptr_t)argv[3];
	in.len = strlen(argv[3]);
	nvmeng_prep_store(io_uring_get_sqe(&ring), dev, &in, argv[2],
			  strlen(argv[2]), 0);
	ret = nvmeng_run(&ring, NULL);
	if (ret)
		errx(1, "store: %s", nvmeng_explain(NVMENG_COMMAND, ret));
	out.addr = (uintptr_t)back;
	out.len = sizeof(back);
	nvmeng_prep_retrieve(io_uring_get_sqe(&ring), dev, &out, argv[2],
			     strlen(argv[2]));
	ret = nvmeng_run(&ring, &len);
	if (ret)
		errx(1, "retrieve: %s", nvmeng_explain(NVMENG_COMMAND, ret));
	/* the length of the whole value, of which there may be less here */
	if (len > sizeof(back))
		len = sizeof(back);
	printf("%s is %.*s\n", argv[2], (int)len, back);
	return 0;
}
