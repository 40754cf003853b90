// SPDX-License-Identifier: GPL-2.0
/* libnvmeng, all of it, on nodes whose data is lost. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <nvmeng.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define DEPTH		32
#define ZONE_MGMT_SEND	0x79
#define ZONE_RESET	0x04
#define ZONE_INVALID_WRITE	0x1bc
#define KV_NO_KEY	0x087
#define KV_KEY_EXISTS	0x089

static struct nvmeng *nvm, *kv, *zns;
static struct io_uring ring;
static unsigned char *mem;
static size_t mem_size = 1 << 20;

/* What went wrong first in this case. */
static char failed[256];

#define expect(is, want) expect_at(__LINE__, #is, is, want)
static bool expect_at(int line, const char *what, long long is, long long want)
{
	if (is == want)
		return true;
	if (!*failed)
		snprintf(failed, sizeof(failed), "line %d: %s is %lld, expected %lld",
			 line, what, is, want);
	return false;
}

static struct io_uring_sqe *sqe(void)
{
	return io_uring_get_sqe(&ring);
}

static void fill(void *at, size_t len, unsigned int seed)
{
	unsigned char *p = at;

	while (len--) {
		seed = seed * 1103515245 + 12345;
		*p++ = seed >> 16;
	}
}

static struct nvmeng_data at(void *p, __u32 len)
{
	return (struct nvmeng_data) { .addr = (uintptr_t)p, .len = len };
}

static void opening(void)
{
	struct nvmeng *dev = NULL;

	expect(nvmeng_open("/dev/ng-none", O_RDONLY, &dev), -ENOENT);
	expect(nvmeng_open("/dev/null", O_RDONLY, &dev), -ENOTTY);
	expect(!dev, true);
	nvmeng_close(NULL);
}

static void limits(void)
{
	expect(nvmeng_limits(nvm)->csi, NVMENG_CSI_NVM);
	expect(nvmeng_limits(kv)->csi, NVMENG_CSI_KV);
	expect(nvmeng_limits(zns)->csi, NVMENG_CSI_ZNS);
	expect(nvmeng_block_size(nvm), 512);
	expect(nvmeng_block_size(kv), 0);
	expect(nvmeng_refresh(nvm), 0);
	expect(nvmeng_block_size(nvm), 512);
	expect(nvmeng_fd(nvm) >= 0, true);
}

static void identify(void)
{
	expect(nvmeng_identify(nvm, 0x00, 0, mem), 0);
	expect(mem[0] | mem[1] << 8 | mem[2] << 16, (64 << 20) / 512);
	/* Invalid Field in Command, from the controller */
	expect(nvmeng_identify(kv, 0x05, 0x3f, mem), 0x002);
}

static void pointers(void)
{
	struct nvmeng_data in = at(mem, 8192), out = at(mem + 8192, 8192);

	fill(mem, 8192, 1);
	memset(mem + 8192, 0, 8192);
	nvmeng_prep_write(sqe(), nvm, &in, 16);
	expect(nvmeng_run(&ring, NULL), 0);
	nvmeng_prep_read(sqe(), nvm, &out, 16);
	expect(nvmeng_run(&ring, NULL), 0);
	expect(memcmp(mem, mem + 8192, 8192), 0);
	/* LBA Out of Range */
	nvmeng_prep_read(sqe(), nvm, &out, 1ULL << 40);
	expect(nvmeng_run(&ring, NULL), 0x080);
}

/* A region, DEPTH writes with one call, DEPTH reads with another. */
static void batch(struct io_uring *r)
{
	struct nvmeng_result results[DEPTH];
	struct nvmeng_data data = { .len = 4096 };
	unsigned int i, phase, seen, n;
	__u32 region, granule;
	__u64 names;

	if (!expect(nvmeng_map(nvm, mem, mem_size, 0, &region, &granule), 0))
		return;
	data.region = region;
	fill(mem, DEPTH * 4096, 2);
	memset(mem + DEPTH * 4096, 0, DEPTH * 4096);
	for (phase = 0; phase < 2; phase++) {
		for (i = 0; i < DEPTH; i++) {
			struct io_uring_sqe *s = io_uring_get_sqe(r);

			data.addr = (phase * DEPTH + i) * 4096;
			if (phase)
				nvmeng_prep_read(s, nvm, &data, 1000 + i * 8);
			else
				nvmeng_prep_write(s, nvm, &data, 1000 + i * 8);
			io_uring_sqe_set_data64(s, i);
		}
		expect(nvmeng_submit(r, DEPTH), DEPTH);
		for (seen = 0, names = 0; seen < DEPTH; seen += n) {
			n = nvmeng_reap(r, results, 7);
			if (!n && !expect(nvmeng_submit(r, DEPTH - seen), 0))
				break;
			for (i = 0; i < n; i++) {
				expect(results[i].status, 0);
				names |= 1ULL << results[i].user_data;
			}
		}
		expect(names, (1ULL << DEPTH) - 1);
	}
	expect(nvmeng_reap(r, results, 1), 0);
	expect(memcmp(mem, mem + DEPTH * 4096, DEPTH * 4096), 0);
	expect(nvmeng_unmap(nvm, region), 0);
	expect(nvmeng_unmap(nvm, region), -ENOENT);
	nvmeng_prep_read(io_uring_get_sqe(r), nvm, &data, 0);
	expect(nvmeng_run(r, NULL), -ENOENT);
}

static void regions(void)
{
	__u32 region;

	batch(&ring);
	expect(nvmeng_map(nvm, mem, 0, 0, &region, NULL), -EINVAL);
	expect(nvmeng_map_dmabuf(nvm, -1, 0, 4096, 0, &region, NULL), -EBADF);
	expect(nvmeng_map_dmabuf(nvm, nvmeng_fd(nvm), 0, 4096, 0, &region, NULL),
	       -EINVAL);
}

static void polled(void)
{
	struct io_uring r;

	if (!expect(nvmeng_ring_init(DEPTH, &r, IORING_SETUP_IOPOLL), 0))
		return;
	batch(&r);
	io_uring_queue_exit(&r);
}

/* What cannot be ends with -EINVAL, and the controller does not see it. */
static void impossible(void)
{
	struct nvmeng_data data = at(mem, 4096), odd = at(mem, 1000);
	struct nvmeng_data mixed = at(mem, 4096), none = at(mem, 0);
	char key[17] = "too long for that";

	mixed.region = 1;
	mixed.meta_len = 8;
	nvmeng_prep_read(sqe(), nvm, &odd, 0);
	expect(nvmeng_run(&ring, NULL), -EINVAL);
	nvmeng_prep_read(sqe(), nvm, &none, 0);
	expect(nvmeng_run(&ring, NULL), -EINVAL);
	nvmeng_prep_write(sqe(), nvm, &mixed, 0);
	expect(nvmeng_run(&ring, NULL), -EINVAL);
	nvmeng_prep_read(sqe(), kv, &data, 0);
	expect(nvmeng_run(&ring, NULL), -EINVAL);
	nvmeng_prep_store(sqe(), kv, &data, key, sizeof(key), 0);
	expect(nvmeng_run(&ring, NULL), -EINVAL);
	nvmeng_prep_store(sqe(), kv, &data, key, 4, 256);
	expect(nvmeng_run(&ring, NULL), -EINVAL);
}

static void append(void)
{
	struct nvmeng_data data = at(mem, 4096), back = at(mem + 4096, 4096);
	struct nvme_ng_uring_cmd *cmd;
	__u64 zone = nvmeng_limits(zns)->zone_size, lba;
	unsigned int i;

	cmd = nvmeng_prep(sqe(), zns, ZONE_MGMT_SEND, NULL);
	cmd->cdw10 = zone;
	cmd->cdw13 = ZONE_RESET;
	expect(nvmeng_run(&ring, NULL), 0);
	for (i = 0; i < 3; i++) {
		fill(mem, 4096, i);
		nvmeng_prep_append(sqe(), zns, &data, zone);
		expect(nvmeng_run(&ring, &lba), 0);
		expect(lba, zone + i * 8);
	}
	nvmeng_prep_read(sqe(), zns, &back, zone + 16);
	expect(nvmeng_run(&ring, NULL), 0);
	expect(memcmp(mem, mem + 4096, 4096), 0);
	nvmeng_prep_write(sqe(), zns, &data, zone + 100);
	expect(nvmeng_run(&ring, NULL), ZONE_INVALID_WRITE);
}

static void key_value(void)
{
	struct nvmeng_data data = at(mem, 5000), back = at(mem + 8192, 8192);
	struct nvmeng_data part = at(mem + 8192, 100);
	const char key[] = "\0a key\xff";
	size_t len = sizeof(key) - 1;
	__u64 size;

	fill(mem, 5000, 3);
	nvmeng_prep_store(sqe(), kv, &data, key, len, NVMENG_STORE_REPLACE);
	expect(nvmeng_run(&ring, NULL), KV_NO_KEY);
	nvmeng_prep_store(sqe(), kv, &data, key, len, NVMENG_STORE_NEW);
	expect(nvmeng_run(&ring, NULL), 0);
	nvmeng_prep_store(sqe(), kv, &data, key, len, NVMENG_STORE_NEW);
	expect(nvmeng_run(&ring, NULL), KV_KEY_EXISTS);
	nvmeng_prep_retrieve(sqe(), kv, &back, key, len);
	expect(nvmeng_run(&ring, &size), 0);
	expect(size, 5000);
	expect(memcmp(mem, mem + 8192, 5000), 0);
	nvmeng_prep_retrieve(sqe(), kv, &part, key, len);
	expect(nvmeng_run(&ring, &size), 0);
	expect(size, 5000);
	nvmeng_prep_store(sqe(), kv, NULL, key, len, 0);
	expect(nvmeng_run(&ring, NULL), 0);
	nvmeng_prep_retrieve(sqe(), kv, &back, key, len);
	expect(nvmeng_run(&ring, &size), 0);
	expect(size, 0);
	nvmeng_prep_exist(sqe(), kv, key, len);
	expect(nvmeng_run(&ring, NULL), 0);
	nvmeng_prep_delete(sqe(), kv, key, len);
	expect(nvmeng_run(&ring, NULL), 0);
	nvmeng_prep_exist(sqe(), kv, key, len);
	expect(nvmeng_run(&ring, NULL), KV_NO_KEY);
}

static void list(void)
{
	struct nvmeng_data data = at(mem, 4096);
	struct nvmeng_list where;
	unsigned int i, seen = 0;
	const void *key;
	char name[8];
	size_t len;

	for (i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "list%02u", i);
		nvmeng_prep_store(sqe(), kv, NULL, name, 6, 0);
		expect(nvmeng_run(&ring, NULL), 0);
	}
	memset(mem, 0, 4096);
	nvmeng_prep_list(sqe(), kv, &data, NULL, 0);
	expect(nvmeng_run(&ring, NULL), 0);
	nvmeng_list_init(&where, mem, 4096);
	while ((len = nvmeng_list_next(&where, &key))) {
		if (len == 6 && !memcmp(key, "list", 4)) {
			unsigned char *p = (void *)key;

			seen |= 1U << ((p[4] - '0') * 10 + p[5] - '0');
		}
	}
	expect(seen, (1U << 20) - 1);
	for (i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "list%02u", i);
		nvmeng_prep_delete(sqe(), kv, name, 6);
		expect(nvmeng_run(&ring, NULL), 0);
	}
}

/* A controller may say anything. */
static void bad_list(void)
{
	/* two keys promised, the second one does not end within the list */
	static const unsigned char cut[] = { 2, 0, 0, 0, 1, 0, 'k', 0, 16, 0, 'x' };
	static const unsigned char long_key[] = { 1, 0, 0, 0, 17, 0, 'k' };
	static const unsigned char many[] = { 255, 255, 255, 255, 2, 0, 'k', 'l' };
	struct nvmeng_list where;
	const void *key;

	nvmeng_list_init(&where, cut, sizeof(cut));
	expect(nvmeng_list_next(&where, &key), 1);
	expect(nvmeng_list_next(&where, &key), 0);
	nvmeng_list_init(&where, long_key, sizeof(long_key));
	expect(nvmeng_list_next(&where, &key), 0);
	nvmeng_list_init(&where, many, sizeof(many));
	expect(nvmeng_list_next(&where, &key), 2);
	expect(nvmeng_list_next(&where, &key), 0);
	nvmeng_list_init(&where, many, 3);
	expect(nvmeng_list_next(&where, &key), 0);
}

static void explained(void)
{
	int i;

	expect(strcmp(nvmeng_explain(NVMENG_COMMAND, 0x087),
		      "KV Key Does Not Exist"), 0);
	expect(strcmp(nvmeng_explain(NVMENG_COMMAND, 0x7ff),
		      "Vendor Specific"), 0);
	expect(!!strstr(nvmeng_explain(NVMENG_MAP, -ENOMEM), "RLIMIT_MEMLOCK"),
	       true);
	for (i = -200; i < 0x800; i++)
		expect(strlen(nvmeng_explain(NVMENG_OPEN, i)) > 0, true);
}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{ "opening", opening },
	{ "limits", limits },
	{ "identify", identify },
	{ "pointers", pointers },
	{ "regions", regions },
	{ "polled", polled },
	{ "impossible", impossible },
	{ "append", append },
	{ "key_value", key_value },
	{ "list", list },
	{ "bad_list", bad_list },
	{ "explained", explained },
};

static void open_node(const char *path, struct nvmeng **dev)
{
	int ret = nvmeng_open(path, O_RDWR, dev);

	if (!ret)
		return;
	fprintf(stderr, "%s: %s\n", path, nvmeng_explain(NVMENG_OPEN, ret));
	exit(1);
}

int main(int argc, char **argv)
{
	unsigned int bad = 0;
	size_t i;

	if (argc != 4) {
		fputs("usage: library NVM KEY-VALUE ZONED: nodes, ALL DATA ON THEM IS LOST\n",
		      stderr);
		return 2;
	}
	open_node(argv[1], &nvm);
	open_node(argv[2], &kv);
	open_node(argv[3], &zns);
	if (posix_memalign((void **)&mem, 4096, mem_size) ||
	    nvmeng_ring_init(DEPTH, &ring, 0)) {
		fputs("no memory, or no ring\n", stderr);
		return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n1..%zu\n", ARRAY_SIZE(cases));
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		*failed = '\0';
		cases[i].run();
		if (*failed)
			printf("# %s\n", failed);
		printf("%sok %zu %s\n", *failed ? "not " : "", i + 1,
		       cases[i].name);
		bad += !!*failed;
	}
	io_uring_queue_exit(&ring);
	nvmeng_close(zns);
	nvmeng_close(kv);
	nvmeng_close(nvm);
	return bad ? 1 : 0;
}
