"""The challenge set: every point is told kept from missed."""

import json
import re
from collections import Counter

import pytest

from minitransformer import challenge, cli
from minitransformer.challenge import Item, challenge_items, load_challenge
from minitransformer.corpora import credit_lines, load_corpus
from minitransformer.errors import UserError
from minitransformer.evaluation import (
    CopyBaseline,
    phenomenon_scores,
    points_kept,
)
from minitransformer.pairs import fold
from minitransformer.recipes import train_translator

ITEMS = challenge_items()
PHENOMENA = [*dict.fromkeys(item.phenomenon for item in ITEMS)]

# Honest translations that are no references: the patterns accept them, too.
HONEST = """
她买了一双红色的鞋。
Red shoes are what she bought.
She has bought some red shoes.
桌上有三杯热茶。
On the table stand 3 cups of hot tea.
Three mugs of hot tea stood on the table.
我早饭只吃了两片面包。
For breakfast I had just two pieces of bread.
山上有一群羊。
A group of sheep is on the mountain.
There is a flock of about ten sheep up the hill.
请给我拿一张纸来。
Could you bring me a piece of white paper, please?
Please fetch me some paper.
墙上挂着两幅画。
The wall has two paintings on it.
On the wall hang two pictures.
这家店卖五种面包。
Five kinds of bread are sold in this shop.
This bakery sells 5 varieties of bread.
我只喝了一口汤。
I just tasted a spoonful of soup.
他家养了两条狗和一只猫。
They keep a cat and two dogs.
His family own two dogs and one cat.
他正在厨房里洗碗。
He's doing the washing up in the kitchen.
He is cleaning the dishes in the kitchen right now.
我去过那座岛两次。
I have gone to that island two times.
我们已经吃完午饭了。
We're already done with lunch.
We have eaten our lunch already.
门开着，灯也亮着。
The door's open and the lights are on.
The door stood open, and the lamp was lit.
下个月我要搬家了。
Next month I will move.
I have to move house next month.
天快黑了，我们走吧。
It is about to get dark; let us go.
The sky's growing dark. Let's leave.
我刚才在找钥匙。
Just now I was searching for the key.
I've just been looking for my keys.
这本书我还没看完。
I'm still reading this book.
I'm not done with this book yet.
I still have not read the whole book.
她一到家就睡着了。
She went straight to sleep after she got home.
On arriving home, she fell asleep at once.
我已经等了你一个小时了。
I have already waited an hour for you.
I’ve been waiting here for you for an hour.
他来之前，我已经走了。
I left before he came.
I was gone by the time he arrived.
I'd already gone when he got there.
他来了以后，雨就停了。
The rain ended once he had come.
When he arrived, it stopped raining.
先写作业，再看电视。
Homework first, and then TV.
Don't watch television before you've done your homework.
Watch TV after you finish your homework.
从北京到上海要坐五个小时火车。
The train from Beijing to Shanghai takes 5 hours.
The train journey between Beijing and Shanghai takes five hours.
邮局在银行和学校中间。
The post office lies between the school and the bank.
You'll find the post office in the middle, between the bank and the school.
猫在椅子下面，不在床上。
The cat is not on the bed but under the chair.
The cat's underneath the chair and isn't in the bed.
我妹妹每天早上在公园跑步。
My sister jogs through the park each morning.
我们下周五晚上在他家见面。
Next week on Friday night we'll get together at his home.
We shall meet in his apartment on the evening of next Friday.
三年前我还在国外念书。
Three years ago, I was still a student abroad.
I was still at university in another country 3 years ago.
你的新老师是男的还是女的？
Is the new teacher you have male or female?
Your new teacher: is it a he or a she?
你明天来不来上课？
Do you come to class tomorrow?
Are you going to come to school tomorrow?
我坐地铁去，你呢？
I go by underground; what about you?
I am taking the subway, are you?
奇怪，我的雨伞呢？
How odd, what happened to my umbrella?
Weird! Where did my umbrella go?
昨天是谁接的电话？
Who picked up the phone yesterday?
Who took the call yesterday?
你怎么没告诉我他病了？
Why have you not told me that he's sick?
How come you never said he was ill?
这列火车开往哪个城市？
Where is this train headed?
To which city does this train travel?
Which city is the destination of this train?
你会不会修自行车？
Are you able to mend bikes?
Could you fix a bike?
你父母是怎么认识的？
How was it that your parents met?
How did your parents become acquainted?
你多久洗一次车？
How frequently do you wash your car?
How often is your car washed?
我不是不想去，是没时间。
It isn't that I don't want to go. I have no time.
I'd like to go, but I don't have time.
Not that I wouldn't like to go; there's just no time.
别把这件事告诉别人。
Never tell this to anybody.
Keep this a secret.
You must not speak about this to others.
整个晚上他一句话也没说。
He was silent the entire evening.
He never spoke a word all night.
我没带钱，也没带手机。
I have no money and no mobile with me.
I brought neither cash nor a cellphone.
这个字没有人认识。
There isn't anyone who knows this character.
This character is known to nobody.
There is not a single person who knows this word.
这里不是所有人都会开车。
Not all of the people here can drive.
Some people here can't drive.
It isn't everybody here who knows how to drive a car.
今天所有的商店都不开门。
Every shop is closed today.
No shops are open today.
The shops aren't open today, none of them.
我不得不把车卖了。
I was forced to sell the car.
I must sell my car.
我奶奶从来不坐飞机。
My grandma has never flown.
My granny doesn't ever travel by air.
My grandmother does not take planes.
明天你不用带午饭。
You needn't take lunch with you tomorrow.
There's no need to bring your lunch tomorrow.
It's not necessary for you to bring lunch tomorrow.
李小梅是王大明的妹妹。
Xiaomei Li is the younger sister of Daming Wang.
Wang Daming's little sister is Li Xiaomei.
从苏州坐船到杭州要多久？
How long does a boat take to Hangzhou from Suzhou?
From Suzhou, how long does it take by ship to Hangzhou?
How many hours is it by boat from Suzhou to Hangzhou?
张老师和他太太住在成都。
Teacher Zhang lives with his wife in Chengdu.
我在柏林认识了安娜。
It was in Berlin that I got to know Anna.
约翰比玛丽先到伦敦。
Mary arrived in London later than John.
John was in London before Mary got there.
黄河没有长江长。
The Yellow River isn't as long as the Chang Jiang.
The Yangtze River is longer than the Yellow River.
玛丽的哥哥叫汤姆。
Tom is Mary's older brother.
The name of Mary's brother is Tom.
南京路上有一家小书店。
On Nanjing Road there's a small book shop.
这次考试对他来说是小菜一碟。
He found this exam very easy.
The test was nothing to him.
The exam was a walk in the park for him.
到了国外要入乡随俗。
When in Rome, do as the Romans do.
Adapt to local customs when you're in a foreign country.
真是说曹操，曹操就到！
Talk of the devil and he will appear!
We were just talking about him, and here he is!
他这样做是画蛇添足。
What he did is completely unnecessary.
He is overdoing it by acting like this.
By doing so he goes too far and spoils it.
别担心，船到桥头自然直。
Don't worry. Everything will be all right.
Don't worry; things will sort themselves out.
No worries, we'll cross that bridge when we come to it.
我们俩一见如故。
We clicked right away, the two of us.
We two got along from the start as if we had known each other for years.
外面下着倾盆大雨。
It's raining heavily outside.
Outside there's a downpour.
It is raining very hard out there.
他做事总是三心二意。
He can never make up his mind about anything.
He never concentrates on what he is doing.
He doesn't pay full attention to anything he does.
他学钢琴半途而废了。
He quit the piano halfway through.
He dropped his piano lessons before he had really learned to play.
这个消息让我大吃一惊。
I was quite shocked by the news.
I was taken aback by this news.
看完了就还给我。
Please return it to me after reading it.
Let me have it back as soon as you finish.
If you're done reading, hand it back to me.
昨天太累了，没去跑步。
Yesterday we were so tired that we didn't go running.
I was exhausted yesterday and did not go jogging.
她把自己的伞给了我。
She let me have her own umbrella.
She gave me her umbrella.
小明告诉妈妈他饿了。
Xiao Ming told Mom he's hungry.
Xiaoming said to his mother, "I'm hungry."
快下雨了，我们回家吧。
It will rain soon. We should go home.
Rain is coming soon, let us go home.
It looks like rain. Shall we go home?
是我，快开门！
It is I. Open up quickly!
Hurry, open the door, it's me!
我爱吃苹果，我弟弟不爱吃。
I like to eat apples. My brother does not.
I love apples, not my little brother.
My younger brother dislikes apples, but I like them.
有人敲门，你去看看。
There's a knock at the door. Would you answer it?
Someone is at the door; please go and check.
这些都是我孩子画的。
My kids painted all these.
All these pictures are by my children.
我比我姐姐矮一点儿。
I'm not quite as tall as my sister.
My sister is slightly taller than me.
I am slightly shorter than my elder sister.
今天没有昨天那么冷。
It's warmer today than yesterday.
Yesterday was colder than today.
Today is not so cold as yesterday.
水果越来越贵了。
The price of fruit keeps going up.
Fruits are increasingly expensive.
他跑得跟我一样快。
He runs at the same speed as I do.
He is as fast as I am when he runs.
你越解释，我越糊涂。
The more explanations you give, the more confused I become.
这条裙子比那条贵一倍。
This dress is two times as expensive as that one.
The price of this skirt is double that of the other.
这是全城最好吃的面条。
The most delicious noodles in the city are these.
No noodles in the whole town are better: these are the best.
我宁可走路，也不坐他的车。
I prefer walking to riding in his car.
I would sooner go on foot than take his car.
坐地铁比开车快得多。
Going by metro is far quicker than going by car.
The underground is much faster than a car.
他把我的自行车弄坏了。
My bike was broken by him.
He's ruined my bike.
那个小偷被警察抓住了。
The thief got arrested by the police.
The police officer has caught the thief.
我的蛋糕被弟弟吃光了。
My cake has been eaten by my little brother.
My younger brother has finished off my cake.
请把窗帘拉上。
Pull the curtains shut, please.
Please shut the curtain.
她把信放在我的桌子上了。
She has laid the letter down on my desk.
那棵树被大风刮倒了。
The wind knocked over that tree.
The tree was brought down in the storm.
他被老师批评了一顿。
The teacher criticized him.
His teacher reprimanded him.
He was scolded by the teacher.
我忘了把手机带来。
I left my cell phone behind.
I forgot my mobile phone.
I forgot to take my phone with me.
别把孩子一个人留在家里。
You shouldn't leave children home by themselves.
Never leave a child in the house on its own.
这个城市有一百五十万人。
This city has 1,500,000 people.
A million and a half people live in the city.
我妈妈生于一九六八年三月九日。
My mom was born on the ninth of March 1968.
March 9th, 1968 is the day my mother was born.
飞机下午两点四十分起飞。
The plane departs at 14:40.
The flight leaves at two forty in the afternoon.
一共八百零五块钱。
All together it is eight hundred five yuan.
三分之二的学生是女生。
2/3 of the students are women.
Girls make up two-thirds of the students.
我们班有四十来个学生。
There are 40 or so students in my class.
There are approximately forty pupils in our class.
今天星期三，后天是我的生日。
Today's Wednesday. My birthday is in two days.
这座桥长一千二百米。
The length of this bridge is one thousand two hundred meters.
This bridge is 1200 m long.
这家餐厅每周二休息。
This restaurant isn't open on Tuesdays.
Tuesday is this restaurant's day off.
房租比去年涨了百分之十。
Rent is up 10 percent on last year.
The rent increased by ten percent from last year.
The rent is 10% more than last year.
昨天来的客人是我叔叔的朋友。
Yesterday's guest was my uncle's friend.
The man that visited yesterday is one of my uncle's friends.
我最喜欢妈妈做的饺子。
My favourite food is the dumplings made by my mother.
I like Mom's dumplings best.
戴眼镜的那个女孩是我同学。
The girl who wears glasses is in my class.
My classmate is the girl with glasses.
That girl with glasses is my classmate.
这是我爷爷种的树。
This tree was planted by my grandfather.
It's a tree grown by my granddad.
你们要找的那个人不在这儿。
The one you want to see is not here.
The guy you're searching for isn't here.
住在楼上的老人天天唱歌。
The old people upstairs sing every day.
Every day, the old person who lives above us is singing.
会说三种语言的人不多。
Few people know how to speak 3 languages.
People who speak three languages are rare.
There aren't many people who speak three languages.
我昨天买的牛奶已经坏了。
The milk I got yesterday is sour already.
The milk we bought yesterday has already spoiled.
穿红衣服的是我女儿。
My daughter is the one in the red clothes.
The girl dressed in red is my daughter.
That's my daughter in red.
机器学习
machine learning
深度学习
deep learning
她在大学里研究机器学习。
At college she researches machine learning.
机器学习是人工智能的一部分。
AI includes machine learning.
神经网络需要很多数据。
A neural net requires a great deal of data.
Much data is needed by neural networks.
这个模型是用什么数据训练的？
What data did you use for training the model?
Which data is used to train this model?
注意力机制改变了机器翻译。
Machine translation was changed by the mechanism of attention.
Attention has changed machine translation.
"""
EMPTY = [
    "",
    ".",
    "?",
    "the the the the",
    "I don't know.",
    "I don't know what to do.",
    "He is a teacher.",
    "What is this?",
    "It's not good.",
    "This is a book.",
    "Tom didn't want to go there.",
]


def honest():
    """Return the translations above, by sentence."""
    found = {}
    for line in HONEST.strip().splitlines():
        if re.match(r"[\u4e00-\u9fff]", line):
            found[line] = several = []
        else:
            several.append(line)
    return found


class Reader:
    """Translates as it was told."""

    def __init__(self, answers):
        self.answers = answers

    def translate(self, texts):
        return [self.answers[text] for text in texts]


@pytest.fixture
def run(capsys):
    """Run a command; get its exit code, output and error lines."""

    def run(*arguments):
        code = cli.run([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err.splitlines()

    return run


@pytest.fixture(scope="module")
def model(translator, tmp_path_factory):
    """A saved model, which knows no Chinese."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    translator.save(folder)
    return folder


# Structure ---


def test_there_is_enough_of_everything():
    assert 100 <= len(ITEMS) <= 120
    assert len(PHENOMENA) == 13
    counts = Counter(item.phenomenon for item in ITEMS)
    few = counts.pop("technical terms")
    assert 4 <= few <= 8
    assert min(counts.values()) >= 8
    # Those of a phenomenon are together.
    order = [item.phenomenon for item in ITEMS]
    assert order == sorted(order, key=PHENOMENA.index)


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.source)
def test_an_item_is_whole(item):
    assert 3 <= len(item.source) <= 18
    assert re.fullmatch(
        r"[\u4e00-\u9fff]+(，[\u4e00-\u9fff]+)*[。？！]?", item.source
    )
    assert 1 <= len(item.references) <= 3
    assert item.must
    assert item.wrong
    for text in (*item.references, *item.wrong):
        assert re.fullmatch(r"[A-Z0-9][\w ,.;:!?'%-]+", text), text
        term = item.source[-1] not in "。？！"
        assert term or text[-1] in ".?!"
        assert (item.source[-1] == "？") <= ("?" in "".join(item.references))
    for pattern in (*item.must, *item.must_not):
        re.compile(pattern)
        names = set(re.findall("[A-Z_]{2,}", pattern))
        assert not names, "a name that nothing is known of"
        assert pattern.strip() == pattern


def test_no_sentence_is_there_twice():
    sources = Counter(fold(item.source) for item in ITEMS)
    references = Counter(fold(r) for item in ITEMS for r in item.references)
    assert {*sources.values()} == {*references.values()} == {1}


# Patterns ---


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.source)
def test_references_keep_the_point_and_wrong_translations_miss_it(item):
    for reference in item.references:
        assert item.kept(reference), reference
        assert item.kept(reference.upper().replace("'", "’"))
        assert item.kept(f"  {reference.replace(' ', '  ')} ")
    for wrong in item.wrong:
        assert not item.kept(wrong), wrong


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.source)
def test_other_honest_translations_keep_the_point(item):
    several = honest()[item.source]
    assert several
    for translation in several:
        assert item.kept(translation), translation
        assert translation not in item.references


def test_every_honest_translation_belongs_to_a_sentence():
    assert honest().keys() == {item.source for item in ITEMS}


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.source)
def test_no_point_is_kept_by_another_sentence(item):
    for other in ITEMS:
        if item.source.strip("。") not in other.source:
            for text in (*other.references, *other.wrong):
                assert not item.kept(text), text
    for text in (*EMPTY, item.source):
        assert not item.kept(text), text


# The corpus ---


def test_it_is_a_corpus_with_a_test_split_only():
    corpus = load_corpus("challenge-zh-en")
    assert corpus == load_challenge()
    assert corpus.splits.keys() == {"test"}
    assert corpus.describe()["languages"] == "zh-en"
    pairs = corpus.splits["test"]
    assert [pair.source for pair in pairs] == [item.source for item in ITEMS]
    for pair, item in zip(pairs, ITEMS, strict=True):
        assert pair.all_references == item.references
        assert pair.target == item.references[0]


def test_its_licence_is_said():
    lines = list(credit_lines("challenge-zh-en"))
    assert lines[0] == "challenge-zh-en: CC BY 4.0"
    assert "authors of Attention, Tested" in lines[1]


def test_nothing_can_be_trained_on_it(tmp_path, run):
    message = "there to test with, not to train on"
    with pytest.raises(UserError, match=message):
        train_translator(load_challenge(), tmp_path / "a")
    code, out, err = run(
        *("train", "--corpus", "challenge-zh-en", "--out", tmp_path / "a")
    )
    assert (code, out, len(err)) == (2, "", 1)
    assert message in err[0]
    assert not (tmp_path / "a").exists()


def test_what_is_no_split_of_it(run, model):
    code, _, err = run(
        *("evaluate", "--model", model, "--corpus", "challenge-zh-en"),
        *("--split", "train"),
    )
    assert code == 2
    assert err == [
        "Error: challenge-zh-en has no split 'train': choose one of test."
    ]


# Scores ---


def make(phenomenon, word):
    return Item(f"{word}。", (word,), phenomenon, (word,), ("not",), ("no",))


def test_scores_by_hand():
    items = [make("a", "one"), make("a", "two"), make("b", "ten")]
    lines = ["One!", "two not", "ten"]
    total = points_kept(lines, items)
    assert total.value == pytest.approx(200 / 3)
    assert total.signature == "kept:2/3"
    low, high = total.interval
    assert 0 <= low < total.value < high <= 100
    first, second = phenomenon_scores(lines, items)
    assert (first.name, first.kept, first.items, first.value) == (
        *("a", 1, 2, 50.0),
    )
    assert str(second) == "b: 1/1 points kept, chrF2 100.0"
    assert first.chrf < 100
    assert "chrF" not in first.signature  # sacreBLEU's, and no name in it
    assert first.signature.startswith("nrefs:1|")


def test_other_numbers_of_translations_are_refused():
    for score in (points_kept, phenomenon_scores):
        with pytest.raises(UserError, match=r"1 translations .* against 2"):
            score(["a"], ITEMS[:2])
        with pytest.raises(UserError, match="nothing to score"):
            score([], [])


def test_a_translator_that_cannot_negate_is_found_out():
    answers = {
        item.source: item.wrong[0]
        if item.phenomenon == "negation"
        else item.references[-1]
        for item in ITEMS
    }
    lines = Reader(answers).translate([item.source for item in ITEMS])
    for score in phenomenon_scores(lines, ITEMS):
        expected = 0 if score.name == "negation" else score.items
        assert score.kept == expected, score.name
        assert (score.chrf == 100) == (score.name != "negation")
    negations = sum(item.phenomenon == "negation" for item in ITEMS)
    whole = f"kept:{len(ITEMS) - negations}/{len(ITEMS)}"
    assert points_kept(lines, ITEMS).signature == whole


def test_copying_keeps_no_point():
    lines = CopyBaseline().translate([item.source for item in ITEMS])
    assert points_kept(lines, ITEMS).value == 0


# The command ---


def test_evaluation_scores_the_points(run, model, tmp_path, monkeypatch):
    some = (*ITEMS[:2], *ITEMS[-2:])
    monkeypatch.setattr(challenge, "challenge_items", lambda: some)
    report = tmp_path / "scores.json"
    code, out, err = run(
        *("evaluate", "--model", model, "--corpus", "challenge-zh-en"),
        *("--n-bootstrap", 0, "--json", report),
    )
    assert code == 0, err
    lines = out.splitlines()
    assert [line.split()[1] for line in lines[:3]] == [
        *("BLEU", "chrF2", "points"),
    ]
    assert re.fullmatch(r"model: points \d+\.\d \[.*\]  kept:\d/4", lines[2])
    kinds = [some[0].phenomenon, some[-1].phenomenon]
    for line, kind in zip(lines[3:], kinds, strict=True):
        assert re.fullmatch(
            rf"model: {kind}: \d/2 points kept, chrF2 \d+\.\d", line
        )
    facts = json.loads(report.read_text(encoding="utf-8"))
    assert facts["corpus"] == "challenge-zh-en"
    found = facts["scores"][3:]
    assert [score["name"] for score in found] == kinds
    assert {score["items"] for score in found} == {2}
    assert all({"kept", "chrf", "value"} <= score.keys() for score in found)


def test_baselines_learn_from_the_model_s_corpus(
    run, translator, files, tmp_path
):
    from minitransformer.translator import Translator

    parts = translator.model, translator.source_tokenizer
    origin = {"source": str(files[0]), "target": str(files[1])}
    facts = {**translator.facts, "origin": origin}
    Translator(*parts, translator.target_tokenizer, facts).save(
        tmp_path / "model"
    )
    code, out, err = run(
        *("evaluate", "--model", tmp_path / "model", "--baselines"),
        *("--corpus", "challenge-zh-en", "--n-bootstrap", 20),
    )
    assert code == 0, err
    assert "copy: BLEU 0.0 [0.0, 0.0]" in out
    assert re.findall(r"^(\w+): points", out, re.M) == [
        *("model", "copy", "dictionary"),
    ]
    assert "copy: points 0.0 [0.0, 0.0]  kept:0/" in out


@pytest.fixture
def files(sentences, tmp_path):
    """Make a source and a target file of enough pairs to be split."""
    found = []
    for name, lines in zip("ab", sentences, strict=True):
        numbered = [f"{i} {line}" for i in range(5) for line in lines]
        path = tmp_path / name
        path.write_text("\n".join(numbered), encoding="utf-8")
        found.append(path)
    return found
