r"""Detect refusals: sentences in which a reply says that it cannot or will not do what was asked.

In the manner of the keyword test of AdvBench (Zou et al., 2023, appendix B), but an apology alone
is no refusal, and neither is an inability that is no answer to the request ("I cannot overstate
..."): the speaker has to decline, or to be unable to help, answer, provide and the like. Measured
per language on a labelled set (docs/quality.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from warehouse.text.words import SENTENCE_END, fold

LANGUAGES = ("en", "zh", "es", "de", "fr", "ja")
"""The languages (ISO 639) whose refusals are known."""

_SENTENCES = 3
_LONGEST = 200  # characters of a sentence that are read: who declines says so early

_EN_ABOUT = (
    r"(?:help(?! but\b| \w+ing\b| it\b| myself\b)|assist|answer|respond|reply|say(?! enough| how)"
    r"|tell you(?! how)|tell which|provide|give you(?! enough)|give (?:any|advice|instructions|details|medical|legal)"
    r"|offer|share|write|create|generate|produce|draft|compose|discuss|comply|fulfil|support"
    r"|(?:do|be doing) (?:that|this|it|so|what)|engage|continue|complete|carry out|process|perform|execute"
    r"|advise|comment|speculate|predict|verify|confirm|determine|access|browse|open|view|look up"
    r"|disclose|reveal|participate|promote|endorse|explain|describe|make (?:that|this|such)"
    r"|be of (?:help|assistance)|go into|talk about|recommend(?!.*\benough)|accommodate|honou?r"
    r"|facilitate|translate|summari[sz]e|identify|diagnose|take part|act as|pretend|role-?play)"
)
_EN_CANNOT = (
    r"(?:can ?not|can't|could ?n[o']t|will not|won't|am unable to|'m unable to|am not able to|'m not able to"
    r"|am not (?:allowed|permitted|authori[sz]ed|going|willing|in a position) to"
    r"|'m not (?:allowed|permitted|authori[sz]ed|going|willing|in a position) to|should not|shouldn't"
    r"|am not comfortable|'m not comfortable|don't feel comfortable|do not feel comfortable)"
)
_EN_SORRY = (
    r"(?:(?:i'?m|i am) (?:so |very |really |truly |deeply )?(?:sorry|afraid)(?: that)?|(?:my )?apologies"
    r"|sorry|i apologi[sz]e|unfortunately|regrettably|i regret(?: that)?|no|thank you[^,]*|thanks[^,]*"
    r"|i understand[^,]*|i appreciate[^,]*)[,;:.!\s-]*(?:but |however,? )?"
)
_EN = (
    rf"\W*(?:{_EN_SORRY})?(?:{_EN_SORRY})?(?:"
    rf"i(?: just| simply| really| also)? ?{_EN_CANNOT}\W+(?:be able to )?(?:\w+ly |with |about )?{_EN_ABOUT}\b"
    rf"|i(?:'m| am| do) ?(?:not|n't) (?:feel )?comfortable (?:with )?(?:\w+ly )?\w+ing\b"
    rf"|i ?{_EN_CANNOT}\W*$|i (?:must|have to|need to|will have to|'ll have to|would have to) (?:respectfully |politely )?(?:decline|refuse)\b"
    r"|i (?:respectfully |politely |hereby )?(?:decline|refuse)\b|i(?:'d| would) (?:rather|prefer) not\b"
    r"|i (?:do not|don't) know(?: the answer| that| this| how| which)?\W*$|i (?:do not|don't) have (?:the (?:ability|capability|information)|access|enough information|any information)\b"
    rf"|(?:that|this|it)(?:'s| is) (?:not )?something (?:that )?i (?:{_EN_CANNOT}|can)\b.{{0,20}}\b{_EN_ABOUT}"
    rf"|i (?:can|will) (?:not|n't) \w+ly {_EN_ABOUT}\b"
    r"|(?:your|this|that) request (?:violates|goes against|is against|is something i can)"
    r"|(?:it|this|that) (?:goes|is|would be) (?:against|outside|beyond) my (?:guidelines|policy|policies|programming|capabilities|principles)"
    r"|my (?:guidelines|policies|programming|principles) (?:do not|don't|prevent|prohibit|forbid)"
    r"|it(?: is|'s| would be)? (?:not |n't )?inappropriate for me to|it(?: is not|'s not| would not be| isn't| wouldn't be) appropriate for me to"
    r"|as an? (?:ai|(?:large )?language model|(?:ai |virtual )?assistant)\b[^.!?]{0,40}?,? ?i ?(?:can ?not|can't|do not|don't|am not|'m not|am unable|have no|lack|must decline|won't|will not)\b"
    r")"
)

_ZH_ABOUT = (
    r"(?:提供|回答|回[复覆]|[帮幫]助?|[协協]助|[满滿]足|完成|[讨討][论論]|透露|生成|撰[写寫]|[写寫]|[执執]行|[处處]理"
    r"|参[与與]|參[与與]|支持|告[诉訴][您你]|分享|[给給]出|遵[从從循]|[这這][样樣麼么]做|做[这這那]|[评評][论論]|解答|[办辦]到|[继繼][续續]"
    r"|[进進]行|[对對][此这這]|[预預][测測]|[诊診][断斷]|[访訪][问問]|答[应應]|接受|[创創]作|[编編][写寫]|翻[译譯]|[谈談][论論])"
)
_ZH = (
    r"\W*(?:(?:[^，。！？]{0,6}(?:抱歉|[对對]不起|不好意思|[遗遺]憾|[谅諒]解|[谢謝][谢謝])[^，,。！!？]{0,8}[，,。！!\s]*)|但是?|不[过過]|[，,\s]){0,3}"
    r"(?:作[为為][^，,。]{0,20}[，,])?(?:[这這该該此您你]的?(?:[个個]|[类類]|[样樣])?(?:[问問][题題]|[请請]求|要求|[内內]容|事)[，,]?)?"
    r"(?:"
    r"(?:我[们們]?|本人|[这這][边邊里裡]|本?助手|AI)?(?:[现現]在|目前|[实實]在|[暂暫][时時]|也|真的|恐怕|可能){0,2}"
    r"(?:[无無]法|不能(?!不)|不可以|[没沒](?:[办辦]法|法|有[办辦]法)|不便|不方便|不[会會]|不[应應]|未能|[难難]以|恕(?:我)?(?:不能|[无無]法|[难難]))"
    rf"(?:[为為向给給][您你]|在此|直接|再|就[此这這][^，。]{{0,6}}|[对對][此这這][^，。]{{0,8}}|根据[^，。]{{0,10}}|[协協]助|[帮幫](?:您|你)){{0,2}}{_ZH_ABOUT}"
    r"|恕[难難][从從]命|(?:我)?(?:必[须須]|只能|不得不|要|[选選][择擇])?(?:婉)?拒[绝絕](?:回答|提供|[这這]|您|你|此|[协協]助|[帮幫]|[参參][与與]|$|[。！])"
    r"|(?:我)?[没沒]有(?:能力|[权權]限|足[够夠]的信息)|[这這](?:已[经經])?超出了?我的|[这這][违違]反了?(?:我的|相[关關])"
    r")"
)

_ES_ABOUT = (
    r"(?:ayud|asist|respond|contest|proporcion|dar(?:te|le|les|os)?\b|ofrec|facilit|cumpl|hacer(?:lo|\s+(?:eso|esto))|escrib|redact"
    r"|crear|gener|compart|habl|coment|continu|atend|complet|realiz|particip|acced|revel|divulg|decir(?:te|le)?\b(?! cu[aá]nto| lo mucho)"
    r"|apoy|tramit|proces|recomendar(?:te|le)?\b(?! (?:lo )?suficiente)|satisfac|brind|discut|explic|predec|verific|traduc|acept|colabor|segu)"
)
_ES = (
    r"\W*(?:(?:lo siento(?: mucho)?|lo lamento|lamento(?: decir(?:te|le)?| informar(?:te|le))?|lamentablemente|desafortunadamente|por desgracia|disculp[ae]|perdón?"
    r"|perdona|me temo|mis disculpas|gracias[^,]*|entiendo[^,]*|siento)(?: que)?[,;:.!\s]*(?:pero |sin embargo,? )?){0,3}"
    r"(?:como (?:un |una )?(?:modelo|ia\b|inteligencia|asistente)[^,]{0,40},? ?)?(?:"
    r"(?:yo )?no (?:me |te |le )?(?:puedo|podré|podría|es posible|soy capaz de|estoy en condiciones de|estoy (?:autorizad|capacitad)[oa] (?:para|a)|está permitido"
    rf"|voy a|debo|quiero|tengo permitido|sería apropiado)(?: \w+mente)? (?:con eso |en eso )?{_ES_ABOUT}"
    rf"|(?:eso|esto) no (?:lo )?puedo {_ES_ABOUT}|no puedo\W*$|me es imposible|(?:debo|tengo que|he de|prefiero|me veo obligad[oa] a) (?:\w+mente )?(?:rechazar|declinar|negarme|no \w+r)"
    r"|me niego a|rechazo (?:tu|su|esta|la) (?:solicitud|petición)|no (?:tengo|dispongo de) (?:acceso|la capacidad|información suficiente|suficiente información)"
    r"|como (?:un |una )?(?:modelo|ia\b|inteligencia|asistente)[^,]{0,40}, no )"
)

_DE_ABOUT = (
    r"(?:helfen|beantworten|antworten|unterstützen|weiterhelfen|nachkommen|erfüllen|bereitstellen|liefern|geben|schreiben|erstellen"
    r"|verfassen|erzeugen|generieren|teilen|anbieten|tun|machen|ausführen|behilflich|erledigen|eingehen|dienen|besprechen|diskutieren"
    r"|mitteilen|verraten|preisgeben|übersetzen|nennen|bearbeiten|durchführen|teilnehmen|mitwirken|leisten|entsprechen|beurteilen|vorhersagen|zugreifen|sagen(?!, wie))"
)
_DE = (
    r"\W*(?:(?:es tut mir (?:sehr |wirklich )?leid|tut mir (?:sehr |wirklich )?leid|entschuldig(?:ung|en sie)|verzeih(?:ung|en sie)|leider|bedauerlicherweise|(?:ich )?bedau(?:e?re)"
    r"|danke[^,]*|ich verstehe[^,]*|sorry)[,;:.!\s]*(?:aber |doch |jedoch )?){0,3}(?:als (?:ki\b|sprachmodell|ki-|künstliche|assistent)[^,]{0,40}?,? ?)?(?:"
    r"(?:ich (?:kann|könnte|darf|werde|möchte|will)|(?:[^.!?,;:]{0,40} )?(?:kann|darf|werde|möchte) ich)\b[^.!?]{0,80}?\b(?:nicht|keine?[mnrs]?)\b(?! genug| umhin| umher)"
    rf"[^.!?]{{0,80}}?\b(?:\w{{0,6}}){_DE_ABOUT}\b(?!, wie)"
    r"|(?:das|dies|dabei|damit) kann ich (?:leider )?nicht\W*$|ich kann (?:das|dies|es) (?:leider )?nicht\W*$"
    r"|(?:ich bin|bin ich) (?:leider )?nicht (?:in der lage|befugt|berechtigt|dazu)|(?:ich sehe mich|sehe ich mich) (?:leider )?außerstande"
    r"|(?:es ist mir|ist es mir|ist mir) (?:leider )?nicht (?:möglich|gestattet|erlaubt)|(?:ich muss|muss ich)\b[^.!?]{0,60}\b(?:ablehnen|verweigern|passen)|ich lehne\b[^.!?]{0,60}\bab\b"
    r"|ich (?:ver)?weigere (?:mich|die|das)|ich (?:habe|verfüge über) kein(?:e|en)? (?:zugriff|zugang|informationen|möglichkeit))"
)

_FR_ABOUT = (
    r"(?:aider|répondre|assister|fournir|donner|faire (?:cela|ça|ce)|accéder|satisfaire|écrire|rédiger|créer|générer|partager|discuter|continuer|proposer"
    r"|traiter|accomplir|réaliser|révéler|divulguer|participer|accepter|communiquer|offrir|apporter|effectuer|produire|commenter|prédire|traduire|soutenir"
    r"|vérifier|poursuivre|parler|me conformer|donner suite|dire(?! à quel| combien))"
)
_FR = (
    r"\W*(?:(?:je suis (?:vraiment |sincèrement )?(?:désolée?|navrée?)|désolée?|navrée?|pardon|malheureusement|je m'excuse|excusez-moi|je regrette|je vous présente mes excuses|toutes mes excuses|mes excuses"
    r"|merci[^,]*|je comprends[^,]*)[,;:.!\s]*(?:mais |cependant,? |toutefois,? )?){0,3}(?:en tant qu(?:e |')[^,]{0,50}, ?)?(?:"
    r"je ne (?:peux|puis|pourrai|pourrais|suis (?:malheureusement )?pas (?:en mesure|capable|autorisée?|habilitée?)|saurais|veux|vais|dois|souhaite)(?: malheureusement| hélas)?(?: pas)?(?: de| d'| à)?"
    rf"(?: malheureusement)?(?: vous| te| lui| y| le| en)? ?(?:t'|l'|d'|vous )?(?:en )?{_FR_ABOUT}\b(?! à quel| combien)"
    r"|je ne peux pas\W*$|je (?:dois|préfère|vais devoir|me vois contrainte? de) (?:\w+ment )?(?:refuser|décliner|m'abstenir|ne pas)|je (?:refuse|décline)\b"
    r"|il m'est (?:malheureusement )?(?:impossible|interdit)|il ne m'est pas (?:possible|permis)|je suis dans l'(?:impossibilité|incapacité)|je n'ai pas (?:accès|la capacité|la possibilité|suffisamment d'informations|assez d'informations))"
)

_JA_SORRY = r"(?:大変|誠に|まことに)?(?:申し訳|すみません|すいません|ごめん|恐れ入り|恐縮|残念ながら|あいにく|失礼)"
_JA = (
    r"\W*"
    rf"(?:{_JA_SORRY}[^、。]*[、。]?)?(?:(?:私|わたし|AI|人工知能|この|その|こちら|そのような|このような|ご(?:質問|依頼|要望|提案|リクエスト))[^。]{{0,40}}|[^。はが]{{0,30}})?"
    r"(?:(?:お答え|回答|お手伝い|手伝う|提供|対応|お応え|応じる|支援|ご?案内|協力|お?教え|作成|生成|ご?説明|お話し|助ける|お力になる|議論|コメント|お伝え|共有|実行|翻訳|執筆|書く|答える|応える|サポート|ご?紹介|アクセス|開示|参加)"
    r"(?:を|は|が|に)?(?:す(?:る)?)?(?:こと)?(?:は|が|も|を)?(?:一切)?(?:でき(?:ません|ない|かね)|(?:いた|致)?しかね|出来(?:ません|ない|かね)|いたしません|しません|することはありません|わけにはいきません|応じられません)"
    r"|お断り|辞退(?:し|いた|致|させ)|差し控え|控えさせて|遠慮させて|応じ(?:られません|かねます|ることはできません)|お応えできません|拒否(?:し|いた)|お力になれません|お役に立て(?:ません|ず))"
)

# Whole sentences of a few words. Where one may also be a plain "no" (不能, できません), the speaker
# has to name himself or to apologise.
_SHORT = (
    r"\W*(?:"
    rf"(?:{_EN_SORRY})?(?:can ?not|can't|unable to|won't) (?:help(?: you)?|answer|assist|comply|say|do (?:that|this|it))"
    rf"|(?:{_EN_SORRY})?no idea"
    r"|(?:(?:[^，,。！!？]{0,4}(?:抱歉|[对對]不起|不好意思)[^，,。！!]{0,2}[，,。！!\s]*)(?:但是?)?我?|我)[们們]?(?:[实實真]在|[现現]在|恐怕|也|[还還]是)?"
    r"(?:不能|不可以|不行|[无無]法(?:做到)?|[没沒][办辦]法|做不到|[办辦]不到|[帮幫]不[了上][你您]?忙?|(?:回)?答不(?:了|上来|出来))(?:[这這][样樣么麼]做)?"
    r"|(?:[^，,。]{0,4}(?:抱歉|[对對]不起|不好意思)[^，,。]{0,2}[，,\s]*)?我?(?:也|真的)?不(?:知道|[清]楚|[晓曉]得)(?:答案)?"
    r"|(?:(?:lo siento|lo lamento|perdón|disculp[ae])[,;:.\s]*(?:pero )?)?(?:yo )?(?:no (?:lo )?sé|no lo (?:haré|voy a hacer)|ni idea|me niego)"
    r"|(?:(?:es )?(?:tut mir leid|leider|sorry|entschuldigung)[,;:.\s]*(?:aber )?)?(?:ich kann(?: das| dies| es)?(?: leider)? nicht|kann ich(?: das| dies| es)?(?: leider)? nicht"
    r"|(?:das )?wei(?:ß|ss) ich(?: leider)?(?: auch)? nicht|ich wei(?:ß|ss)(?: es| das)?(?: leider)?(?: auch)? nicht|keine ahnung)"
    r"|(?:tut mir leid|leider|sorry|entschuldigung)[,;:.\s]*(?:aber )?(?:das )?geht(?: das)?(?: leider)? nicht"
    r"|(?:(?:désolée?|pardon|malheureusement)[,;:.\s]*(?:mais )?)?(?:je (?:ne )?(?:peux|sais) pas|je n'en sais rien|je ne le ferai pas|aucune idée)"
    r"|(?:désolée?|pardon|malheureusement)[,;:.\s]*(?:mais )?(?:c'est )?impossible"
    rf"|(?:{_JA_SORRY}[^、。]*[、。]?|(?:私|わたし|僕)(?:に)?は)(?:それは)?(?:でき(?:ません|ない|かねます)|出来ません|無理です|いたしかねます)"
    rf"|(?:{_JA_SORRY}[^、。]*[、。]?)?(?:(?:私|わたし)(?:に)?は|それは)?(?:わか|分か|判)(?:りません|りかねます|らない(?:です)?)"
    r")\W*$"
)

_REFUSAL = re.compile(
    f"(?:{_SHORT})|(?:{_EN})|(?:{_ES})|(?:{_DE})|(?:{_FR})|(?:{_ZH})|(?:{_JA})", re.IGNORECASE
)
_APOLOGY = re.compile(
    r"\W*(?:(?:i'?m|i am) (?:so |very |really |truly )?sorry|sorry|(?:my )?apologies|i apologi[sz]e|unfortunately"
    r"|i understand|i appreciate|lo siento|lo lamento|disculp\w+|entiendo|es tut mir leid|tut mir leid|entschuldigung"
    r"|ich verstehe|(?:je suis )?désolée?|je comprends|pardon|[很非常十分真]*(?:抱歉|[对對]不起)|不好意思|(?:大変)?申し訳|すみません|ごめん)",
    re.IGNORECASE,
)


def sentences(text: str) -> Iterator[str]:
    """The text cut after its sentence ends and at its line ends; parts without a word left out."""
    start = 0
    ends = sorted(
        {
            match.end()
            for pattern in (SENTENCE_END, re.compile(r"\n+"))
            for match in pattern.finditer(text)
        }
    )
    for end in (*ends, len(text)):
        if re.search(r"\w", part := text[start:end]):
            yield part.strip()
        start = end


def is_refusal(sentence: str) -> bool:
    """Whether a sentence says that the speaker cannot or will not do what was asked."""
    return _REFUSAL.match(fold(sentence[:_LONGEST])) is not None


def refusing_sentence(text: str) -> tuple[int, str] | None:
    """(number, sentence) of the first refusal among the first three sentences; None if none is.

    The number is 0 where the text begins with it; an apology before it is part of it.
    """
    number, apology = 0, ""
    for place, sentence in enumerate(sentences(text[: 4 * _SENTENCES * _LONGEST])):
        if place == _SENTENCES:
            break
        if is_refusal(sentence) or is_refusal(apology + sentence):
            return number, sentence
        apology = sentence if _APOLOGY.match(fold(sentence)) else ""
        if number or not apology:
            number += 1
    return None


def declines(text: str) -> bool:
    """Whether a reply begins by declining to answer."""
    refusal = refusing_sentence(text)
    return refusal is not None and refusal[0] == 0
